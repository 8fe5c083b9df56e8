/** Ends one call to an upstream: by its client's leaving, by a time limit, or when the caller is done. */
import { HubError } from "../../sdk/protocol/errors.ts";

/** Why a watched call was ended from our side. */
export type Ended = "client_gone" | "timed_out";

/**
 * One signal for the transport. The total time runs from the start; a wait is timed from `expect` to
 * `received`, by one timer that is set again rather than made anew for each chunk.
 */
export class Watch {
  readonly #controller = new AbortController();
  readonly #client: AbortSignal;
  readonly #upstream: string;
  readonly #total: NodeJS.Timeout;
  #wait: { timer: NodeJS.Timeout; ms: number } | undefined;
  #waitingFor: string | undefined;
  #ended: Ended | undefined;

  constructor(client: AbortSignal, upstream: string, totalMs: number) {
    this.#client = client;
    this.#upstream = upstream;
    this.#total = setTimeout(() => this.#timeOut(`a whole answer within ${totalMs} ms`), totalMs);
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

  /** Lets go of timers and of the client's signal; a call still open is not touched. */
  done(): void {
    clearTimeout(this.#total);
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
