/** Passes an opened stream on to the client, and tells exactly once how it ended. */
import { asHubError, type HubError } from "../../sdk/protocol/errors.ts";
import type { TransportResponse } from "../providers/transport.ts";
import { type AnswerStream, type StreamStep, whole } from "./answer-stream.ts";
import { toUpstreamError } from "./failure.ts";
import type { OpenStream } from "./one-call.ts";

export type RelayEnd =
  | { type: "done" }
  | { type: "client_gone" }
  | { type: "upstream_failed"; error: HubError }
  /** We ended it: the upstream is well. */
  | { type: "cut"; error: HubError };

export type Meter = {
  /** Looked at after each step; nothing where the answer may go on at once. */
  check(reader: AnswerStream): Promise<Verdict> | undefined;
};

/** Whether the newest step may be passed, and why there may be no other. */
export type Verdict = { mayPass: boolean; error?: HubError };

export type RelayOptions = {
  keepAliveMs: number;
  /** What says nothing and keeps a connection open; absent where the dialect has none such. */
  keepAlive: Uint8Array | undefined;
  /** Follows what the answer uses up, and may end it. */
  meter?: Meter | undefined;
  /**
   * Called once, whatever happens, before the client is given the stream's end: what it settles is
   * durable when the client sees `[DONE]`. An error's frame waits for it too.
   */
  onEnd: (end: RelayEnd) => Promise<void>;
};

/**
 * Bytes go out as they came in, one read of the upstream for each that the client takes, so a slow client
 * slows its upstream and nothing piles up here. A stream that breaks ends with the error's envelope as its
 * last event and without `[DONE]`; where the dialect has no way to say it, the connection breaks.
 */
export function relay(stream: OpenStream, options: RelayOptions): ReadableStream<Uint8Array> {
  const { provider, turn, response, reader, watch } = stream;
  const { idleMs } = provider.timeouts;
  let next: StreamStep | undefined = stream.first;
  let ended = false;
  let gone = false;
  let silent = true;
  let keepAlive: NodeJS.Timeout | undefined;
  let cut: HubError | undefined;

  async function readOn(): Promise<StreamStep> {
    watch.expect("the next byte", idleMs);
    const chunk = await response.read();
    watch.received();
    const step = chunk ? reader.push(chunk) : reader.close();
    return step.later ? whole(step) : step;
  }

  /** The same step, or the last one. */
  async function metered(step: StreamStep): Promise<StreamStep> {
    let verdict: Verdict | undefined;
    try {
      verdict = step.end ? undefined : await options.meter?.check(reader);
    } catch (thrown) {
      // What fails there is ours, such as a budget's store.
      verdict = { mayPass: false, error: asHubError(thrown) };
    }
    if (!verdict?.error) return step;
    cut = verdict.error;
    return { pass: verdict.mayPass ? step.pass : [], end: { error: cut } };
  }

  async function end(how: RelayEnd): Promise<void> {
    if (ended) return;
    ended = true;
    clearInterval(keepAlive);
    watch.done();
    if (how.type === "done") readRest(response);
    else response.cancel();
    if (how.type === "done") turn.succeed();
    else if (how.type === "cut") turn.succeed();
    else if (how.type === "upstream_failed") turn.fail(how.error, true);
    else turn.abandon();
    await options.onEnd(how);
  }

  async function finish(
    controller: ReadableStreamDefaultController<Uint8Array>,
    error: HubError | undefined,
  ): Promise<void> {
    if (ended) return;
    try {
      const type = error === cut ? "cut" : "upstream_failed";
      await end(error ? { type, error } : { type: "done" });
      const last = gone ? undefined : reader.ending(error);
      if (last) controller.enqueue(last);
      else if (error && !gone) {
        gone = true;
        controller.error(error);
      }
    } finally {
      // Should we fail at that, nobody is left waiting for more.
      if (!gone) controller.close();
    }
  }

  return new ReadableStream<Uint8Array>({
    start(controller) {
      const leave = () => {
        if (ended || watch.ended !== "client_gone") return;
        void end({ type: "client_gone" });
        // Nobody is left to tell an error to; the HTTP server would only log it.
        controller.close();
      };
      // It may have left between the stream's opening and now; then no event comes any more.
      if (watch.ended) return leave();
      watch.signal.addEventListener("abort", leave);
      keepAlive = setInterval(() => {
        const { keepAlive: sign } = options;
        if (silent && sign && (controller.desiredSize ?? 0) > 0) controller.enqueue(sign);
        silent = true;
      }, options.keepAliveMs);
    },
    async pull(controller) {
      try {
        // Steps that pass nothing, such as a swallowed usage chunk, must not end the pull.
        for (let passed = false; !passed && !ended; ) {
          const read = next ?? (await readOn());
          next = undefined;
          const step = options.meter ? await metered(read) : read;
          if (ended) return;
          silent = false;
          for (const bytes of step.pass) controller.enqueue(bytes);
          passed = step.pass.length > 0;
          if (step.end) return await finish(controller, step.end.error);
        }
      } catch (thrown) {
        if (ended) return;
        await finish(
          controller,
          watch.ended ? watch.signal.reason : toUpstreamError(thrown, provider.name),
        );
      }
    },
    async cancel() {
      gone = true;
      await end({ type: "client_gone" });
    },
  });
}

/** After `[DONE]` comes the end, usually at once; a connection that was read to it can be used again. */
function readRest(response: TransportResponse): void {
  const timer = setTimeout(() => response.cancel(), restMs);
  const reading = async () => {
    while (await response.read());
  };
  reading()
    .catch(() => response.cancel())
    .finally(() => clearTimeout(timer));
}

const restMs = 1_000;
