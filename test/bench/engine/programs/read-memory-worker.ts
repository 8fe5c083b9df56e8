/** Reads a large buffer over and over, as fast as the C library can, when it is told to. */
import { parentPort, workerData } from "node:worker_threads";

const { bytes } = workerData as { bytes: number };
/** Written to, so that every page is memory of its own. */
const buffer = Buffer.alloc(bytes, 1);

parentPort?.on("message", () => {
  const from = performance.timeOrigin + performance.now();
  // Looking for a byte that is not there is one stream of loads.
  buffer.indexOf(2);
  parentPort?.postMessage({ from, to: performance.timeOrigin + performance.now() });
});
parentPort?.postMessage("ready");
