/** What the clients of a soak do next: from a seed, so that a run which went wrong can be run again. */
import { RandomNumbers } from "../bench/engine/models/random-numbers.ts";
import { baseId } from "../support/adapter-server.ts";
import type { SoakAdapters } from "./adapters.ts";

export type Action =
  | {
      type: "ask";
      body: Record<string, unknown>;
      choices: number;
      stream: boolean;
      /** Leaves after so many milliseconds, or after so many chunks of a stream. */
      leave: { afterMs: number } | { afterChunks: number } | undefined;
      /** Between two chunks of a stream. */
      pauseMs: number;
    }
  | { type: "load"; name: string; folder: string; inPlace: boolean; isGood: boolean }
  | { type: "unload"; name: string }
  | { type: "look"; path: string };

export class RandomActions {
  readonly #random: RandomNumbers;
  readonly #adapters: SoakAdapters;

  constructor(seed: number, adapters: SoakAdapters) {
    this.#random = new RandomNumbers(seed);
    this.#adapters = adapters;
  }

  next(): Action {
    const { good, bad } = this.#adapters;
    const kind = this.#below(100);
    if (kind < 78) return this.#ask();
    const name = this.#of(loadedNames);
    if (kind < 90) {
      const inPlace = this.#chance(0.3);
      return { type: "load", name, folder: this.#of(good), inPlace, isGood: true };
    }
    if (kind < 94) {
      return { type: "load", name, folder: this.#of(bad), inPlace: true, isGood: false };
    }
    if (kind < 97) return { type: "unload", name };
    return { type: "look", path: this.#of(["/metrics", "/v1/models", "/health"]) };
  }

  #ask(): Action {
    const stream = this.#chance(0.6);
    const choices = this.#chance(0.15) ? 2 + this.#below(2) : 1;
    const leaves = this.#chance(0.25);
    const leave = !leaves
      ? undefined
      : stream && this.#chance(0.7)
        ? { afterChunks: 1 + this.#below(8) }
        : { afterMs: this.#below(120) };
    const body = {
      model: this.#model(),
      messages: this.#messages(),
      max_tokens: this.#chance(0.1) ? 200 : 1 + this.#below(32),
      n: choices,
      stream,
      temperature: this.#of([0, 0, 0.7, 1.3]),
      ...(this.#chance(0.3) && { seed: this.#below(1000) }),
      ...(this.#chance(0.3) && { ignore_eos: true }),
      ...(this.#chance(0.2) && { stop: ["e", " the"] }),
      ...(this.#chance(0.2) && { logprobs: true, top_logprobs: this.#below(5) }),
      ...(this.#chance(0.2) && { top_p: 0.8, top_k: 20 }),
      ...(this.#chance(0.2) && { repetition_penalty: 1.2 }),
      ...(stream && this.#chance(0.5) && { stream_options: { include_usage: true } }),
      ...(this.#chance(0.02) && { temperature: 99 }),
      ...(this.#chance(0.02) && { no_such_parameter: true }),
      ...this.#mix(),
    };
    const pauseMs = this.#chance(0.1) ? this.#below(20) : 0;
    return { type: "ask", body, choices, stream, leave, pauseMs };
  }

  #model(): string {
    const kind = this.#below(10);
    if (kind < 3) return baseId;
    if (kind < 8) return this.#of(loadedNames);
    if (kind < 9) return `${baseId}@sha256-${this.#of(this.#adapters.digests)}`;
    return this.#of(["nobody", `sha256-${"0".repeat(64)}`]);
  }

  /** A weighted sum of two; sometimes of more rank than a slot has. */
  #mix(): Record<string, unknown> {
    if (!this.#chance(0.05)) return {};
    const first = this.#below(this.#adapters.digests.length);
    const second =
      (first + 1 + this.#below(this.#adapters.digests.length - 1)) % this.#adapters.digests.length;
    const adapters = [first, second].map((at) => ({
      model: `sha256-${this.#adapters.digests[at]}`,
      weight: 0.5,
    }));
    return { model: baseId, adapters };
  }

  /** Many begin alike, few are long, and some do not fit. */
  #messages() {
    const beginning = this.#chance(0.5) ? "You answer questions about parcels. ".repeat(6) : "";
    const words = this.#chance(0.03) ? 4000 : this.#chance(0.1) ? 400 : this.#below(40);
    const content = `${beginning}${this.#below(1000)} ${"word ".repeat(words)}`;
    return [{ role: "user", content }];
  }

  #of<T>(values: readonly T[]): T {
    return values[this.#below(values.length)] as T;
  }

  #chance(share: number): boolean {
    return this.#random.bits() / 2 ** 32 < share;
  }

  #below(count: number): number {
    return Math.floor((this.#random.bits() / 2 ** 32) * count);
  }
}

/** Fewer than adapters, so that names change hands. */
const loadedNames = ["one", "two", "three", "four", "five", "six"];
