/** Ends one call to an upstream: by its client's leaving, by a time limit, or when the caller is done. */
import { HubError } from "../../sdk/protocol/errors.ts";

/** Why a watched call was ended from our side: the first two are the client's doing; `lost` is one that another beat. */
export type Ended = "client_gone" | "client_deadline" | "timed_out" | "lost";

export type WatchTimes = {
  /** For the whole answer. */
  totalMs: number;
  /** Until the client gives up on an answer that has not begun; it does not bound a stream's length. */
  clientMs: number | undefined;
};

/**
 * One signal for the transport. The total time runs from the start; a wait is timed from `expect` to
 * `received`, by one timer that is set again rather than made anew for each chunk.
 */
export class Watch {
  readonly #controller = new AbortController();
  readonly #client: AbortSignal;
  readonly #upstream: string;
  readonly #total: NodeJS.Timeout;
  readonly #deadline: NodeJS.Timeout | undefined;
  #wait: { timer: NodeJS.Timeout; ms: number } | undefined;
  #waitingFor: string | undefined;
  #ended: Ended | undefined;

  constructor(client: AbortSignal, upstream: string, { totalMs, clientMs }: WatchTimes) {
    this.#client = client;
    this.#upstream = upstream;
    this.#total = setTimeout(
      () => this.#timeOut(`a whole answer within ${Math.round(totalMs)} ms`),
      totalMs,
    );
    if (clientMs !== undefined && clientMs < totalMs) {
      this.#deadline = setTimeout(() => this.#end("client_deadline", deadlinePassed()), clientMs);
    }
    client.addEventListener("abort", this.#leave, { once: true });
    if (client.aborted) this.#leave();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get ended(): Ended | undefined {
    return this.#ended;
  }

  /** @param what for the error's message, such as "the first byte" */
  expect(what: string, ms: number): void {
    this.#waitingFor = what;
    if (this.#wait?.ms === ms) {
      this.#wait.timer.refresh();
      return;
    }
    clearTimeout(this.#wait?.timer);
    const timer = setTimeout(() => {
      if (this.#waitingFor !== undefined) this.#timeOut(`${this.#waitingFor} within ${ms} ms`);
    }, ms);
    this.#wait = { timer, ms };
  }

  received(): void {
    this.#waitingFor = undefined;
  }

  /** The answer has begun, within the client's own deadline. */
  begun(): void {
    this.received();
    clearTimeout(this.#deadline);
  }

  /** Another call of the same request was quicker. */
  lose(): void {
    this.#end("lost", new HubError("request_cancelled", "Another upstream was quicker."));
  }

  /** Lets go of timers and of the client's signal; a call still open is not touched. */
  done(): void {
    clearTimeout(this.#total);
    clearTimeout(this.#deadline);
    clearTimeout(this.#wait?.timer);
    this.#client.removeEventListener("abort", this.#leave);
  }

  #leave = (): void => {
    this.#end("client_gone", new HubError("request_cancelled", "The client closed the request."));
  };

  #timeOut(what: string): void {
    this.#end(
      "timed_out",
      new HubError("upstream_timeout", `The upstream '${this.#upstream}' did not deliver ${what}.`),
    );
  }

  #end(how: Ended, reason: HubError): void {
    if (this.#ended !== undefined) return;
    this.#ended = how;
    this.done();
    this.#controller.abort(reason);
  }
}

/** What a client is told whose own deadline, such as `x-stainless-timeout`, passed before an answer. */
function deadlinePassed(): HubError {
  return new HubError(
    "upstream_timeout",
    "No model answered within the time that the client gave ('x-stainless-timeout').",
  );
}
