/** One way to reach an upstream, an address and a key, with what is known of how both are. */
import type { HubError } from "../../sdk/protocol/errors.ts";
import type { Provider } from "../providers/provider.ts";
import { isOutOfQuota } from "../providers/upstream-words.ts";
import type { Breaker } from "./breaker.ts";
import { isUpstreamFault } from "./failure.ts";

export type DeploymentParts = {
  /** In decisions, logs and metrics; unique within its upstream. */
  name: string;
  provider: Provider;
  weight: number;
  /** Those of the lowest tier that can be called are called. */
  tier: number;
  /** Of the address, which other keys share. */
  address: Breaker;
  /** Of the key, which other addresses may share. */
  key: Breaker;
  /** How long a key rests that met a limit without being told for how long. */
  parkMs: number;
  now: () => number;
};

export class Deployment {
  readonly name: string;
  readonly provider: Provider;
  readonly weight: number;
  readonly tier: number;
  inFlight = 0;
  readonly #parts: DeploymentParts;
  /** Until when each model's limit is used up there. */
  readonly #parkedUntilMs = new Map<string, number>();
  #latency: { ms: number; atMs: number } | undefined;

  constructor(parts: DeploymentParts) {
    this.#parts = parts;
    this.name = parts.name;
    this.provider = parts.provider;
    this.weight = parts.weight;
    this.tier = parts.tier;
  }

  get latencyMs(): number | undefined {
    return this.#latency?.ms;
  }

  get state(): "closed" | "open" | "half-open" {
    const { address, key } = this.#parts;
    const states = [address.state, key.state];
    return states.find((it) => it === "open") ?? states.find((it) => it !== "closed") ?? "closed";
  }

  /** When a call may be tried, `undefined` when one may now. */
  retryAfterMs(): number | undefined {
    const { address, key } = this.#parts;
    const waits = [address.retryAfterMs(), key.retryAfterMs()].filter((it) => it !== undefined);
    return waits.length > 0 ? Math.max(...waits) : undefined;
  }

  /** @param model as the upstream calls it: limits are counted for each */
  isParked(model: string): boolean {
    return (this.#parkedUntilMs.get(model) ?? 0) > this.#parts.now();
  }

  /** Begins a call, whose outcome the caller owes. @returns `undefined` while none may be made */
  enter(model: string): Turn | undefined {
    if (this.retryAfterMs() !== undefined) return undefined;
    const [address, key] = [new Pass(this.#parts.address), new Pass(this.#parts.key)];
    this.inFlight++;
    return new Turn(this, { ...this.#parts, address, key, model });
  }

  park(model: string, ms: number): void {
    const nowMs = this.#parts.now();
    for (const [one, untilMs] of this.#parkedUntilMs) {
      if (untilMs <= nowMs) this.#parkedUntilMs.delete(one);
    }
    this.#parkedUntilMs.set(model, nowMs + ms);
  }

  /** A peak is taken as it is, and forgotten slowly. */
  observe(ms: number): void {
    const atMs = this.#parts.now();
    const known = this.#latency;
    if (known === undefined || ms > known.ms) this.#latency = { ms, atMs };
    else {
      const kept = Math.exp(-Math.max(0, atMs - known.atMs) / forgetMs);
      this.#latency = { ms: known.ms * kept + ms * (1 - kept), atMs };
    }
  }
}

/** One call's way through a breaker. What began before the breaker opened must not be taken for its probe. */
class Pass {
  readonly #breaker: Breaker;
  readonly #isProbe: boolean;

  constructor(breaker: Breaker) {
    this.#breaker = breaker;
    this.#isProbe = breaker.state === "half-open";
    breaker.enter();
  }

  begun(): void {
    this.#breaker.begun();
  }

  succeed(): void {
    this.#breaker.succeed();
  }

  fail(): void {
    if (this.#isProbe || this.#breaker.state === "closed") this.#breaker.fail();
  }

  abandon(): void {
    if (this.#isProbe) this.#breaker.abandon();
  }
}

type TurnParts = Pick<DeploymentParts, "parkMs" | "now"> & {
  address: Pass;
  key: Pass;
  model: string;
};

/** One call of a deployment; its end is told once, and later words change nothing. */
export class Turn {
  readonly #deployment: Deployment;
  readonly #parts: TurnParts;
  readonly #startedAtMs: number;
  #ended = false;

  constructor(deployment: Deployment, parts: TurnParts) {
    this.#deployment = deployment;
    this.#parts = parts;
    this.#startedAtMs = parts.now();
  }

  get deployment(): Deployment {
    return this.#deployment;
  }

  /** A stream has begun: enough to end a probe, not to forget failures; its end tells the rest. */
  begun(): void {
    this.#deployment.observe(this.#parts.now() - this.#startedAtMs);
    this.#parts.address.begun();
    this.#parts.key.begun();
  }

  /** A whole answer is here, or a stream came to its end. */
  succeed(): void {
    this.#end(() => {
      this.#parts.address.succeed();
      this.#parts.key.succeed();
    });
  }

  /** @param sent whether the upstream can know of the call at all */
  fail(error: HubError, sent: boolean): void {
    const { address, key, model, parkMs, now } = this.#parts;
    this.#end(() => {
      if (isOfKey(error)) {
        // An address that refuses a key has answered.
        address.succeed();
        key.fail();
      } else if (isUpstreamFault(error)) {
        address.fail();
        key.abandon();
        // Failing quickly must not look like being quick.
        const ms = now() - this.#startedAtMs;
        this.#deployment.observe(2 * Math.max(ms, this.#deployment.latencyMs ?? 0));
      } else if (sent) {
        address.succeed();
        key.succeed();
        if (isFull(error)) {
          this.#deployment.park(model, error.retryAfterMs ?? parkMs);
        }
      } else {
        // What we refused by ourselves says nothing about who would have got it.
        address.abandon();
        key.abandon();
      }
    });
  }

  /** The call ended without saying anything about the upstream: its client left, or another was quicker. */
  abandon(): void {
    this.#end(() => {
      this.#parts.address.abandon();
      this.#parts.key.abandon();
    });
  }

  #end(tell: () => void): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#deployment.inFlight--;
    tell();
  }
}

/** Whether another key may do better at the same address. */
function isOfKey(error: HubError): boolean {
  return error.code === "upstream_auth_failed" || isOutOfQuota(error);
}

/** Whether it has no room at present, for anybody: it is well, and others are asked before it. */
function isFull({ code, details }: HubError): boolean {
  if (code === "rate_limit_exceeded") return details?.scope !== "project";
  return code === "server_is_overloaded" || code === "shutting_down";
}

const forgetMs = 10_000;
