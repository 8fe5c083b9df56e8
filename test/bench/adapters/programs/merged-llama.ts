/**
 * One merged model in llama.cpp, alone in its process, as a team would serve one adapter: opens its checkpoint, says
 * so, and decodes when it is told to. Its one argument is JSON: `MergedOptions`.
 */

import type { DecodeWork } from "../../engine/contestant.ts";
import { openNodeLlama } from "../../engine/peers/node-llama.ts";
import type { PeerOptions } from "../../engine/peers/peer.ts";
import { memoryBytes } from "../../process-memory.ts";
import type { FromServing } from "./serving.ts";

const tell = (message: FromServing) => process.send?.(message);
/** Node itself and the library's JavaScript, which are not llama.cpp's. */
const emptyBytes = memoryBytes("Pss");
const peer = await openNodeLlama(JSON.parse(process.argv[2] ?? "") as PeerOptions);
const [contestant] = peer?.contestants ?? [];
if (!peer || !contestant) throw new Error("node-llama-cpp is not here");
process.on("message", async (work: DecodeWork) => {
  await contestant.decode(work);
  tell({ type: "done" });
});
tell({ type: "ready", emptyBytes });
