/** A response's event stream, from any number on, for as long as the response runs, wherever it runs. */
import { HubError, toErrorBody } from "../../sdk/protocol/errors.ts";
import { formatSse, sseKeepAlive } from "../../sdk/protocol/sse.ts";
import type { RunState, RunStore } from "./store.ts";

export type FollowOptions = {
  /** The whole of it, for its end. */
  look: () => Promise<RunState>;
  eventsAfter: (after: number) => ReturnType<RunStore["eventsAfter"]>;
  /** Resolves when there is something new, or after a while. */
  wait: () => Promise<void>;
  /** The number of the last event that the client has; -1 for none. */
  after: number;
  now: () => number;
  keepAliveMs: number;
  onEnd: () => void;
};

export function follow(options: FollowOptions): ReadableStream<Uint8Array> {
  const { look, eventsAfter, wait, now, keepAliveMs, onEnd } = options;
  let { after } = options;
  let ended = false;
  let spokeAtMs = now();
  let lastType: string | undefined;

  function end(): void {
    if (!ended) onEnd();
    ended = true;
  }

  /** What is new, as one text; `undefined` at the end. */
  async function read(): Promise<string | undefined> {
    while (!ended) {
      const { running, batches } = await eventsAfter(after);
      const frames = batches.flatMap((batch) => framesAfter(batch, after));
      const newest = batches.at(-1);
      if (newest) {
        after = newest.last;
        lastType = typeOf(newest.frames);
        if (frames.length > 0) return frames.join("");
        continue;
      }
      if (!running) return ending(await look());
      if (now() - spokeAtMs >= keepAliveMs) return sseKeepAlive;
      await wait();
    }
    return undefined;
  }

  /** A process that died has not written the last event. */
  function ending({ response }: RunState): string | undefined {
    if (response.status !== "failed" || lastType === "response.failed" || ended) return undefined;
    lastType = "response.failed";
    const event = { type: lastType, sequence_number: ++after, response };
    return formatSse(JSON.stringify(event), lastType);
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const text = await read();
          if (text !== undefined) {
            spokeAtMs = now();
            controller.enqueue(Buffer.from(text));
            return;
          }
        } catch (error) {
          const { error: told } = toErrorBody(error);
          const { code, message, param } = told;
          const event = { type: "error", code, message, param, error: told };
          controller.enqueue(Buffer.from(formatSse(JSON.stringify(event), "error")));
        }
        if (ended) return;
        end();
        controller.close();
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
}

/** @throws HubError for a stream that was never written down */
export function refuseUnstreamed({ streamed }: RunState): void {
  if (streamed) return;
  throw new HubError(
    "invalid_value",
    "Only a background response that was created with 'stream: true' can be streamed.",
    { param: "stream" },
  );
}

function framesAfter(
  { first, frames }: { first: number; frames: string },
  after: number,
): string[] {
  // JSON has no line breaks of its own, so a blank line ends an event.
  const all = frames.split("\n\n").filter((frame) => frame !== "");
  return all.slice(Math.max(0, after + 1 - first)).map((frame) => `${frame}\n\n`);
}

function typeOf(frames: string): string | undefined {
  const at = frames.lastIndexOf("event: ");
  return at === -1 ? undefined : frames.slice(at + "event: ".length, frames.indexOf("\n", at));
}
