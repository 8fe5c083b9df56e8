/**
 * The adapters that the engine was told of. One that the runner has to make itself ready for can be used once that is
 * done; who asks for it before is held, and nobody else is.
 */
import { asHubError, HubError } from "../../sdk/protocol/errors.ts";
import { packedBytes } from "../lora/shared-weights.ts";
import type { SequenceRequest } from "./sequence.ts";
import type { ModelRunner, PackedAdapter } from "./types.ts";

/** An adapter can be used now, or cannot: then `held` fail of it, and whoever comes next tries it again. */
export type Settled = { digest: string; held: SequenceRequest[]; error?: HubError };

export class KnownAdapters {
  readonly #runner: Pick<ModelRunner, "expectAdapter">;
  readonly #heldMax: number;
  readonly #onSettled: () => void;
  readonly #ready = new Map<string, PackedAdapter>();
  /** What it takes to copy each of them into a slot. */
  readonly #bytes = new Map<string, number>();
  readonly #unready = new Map<string, Unready>();
  #settled: Settled[] = [];

  /**
   * @param heldMax   sequences that wait for adapters; further ones are refused
   * @param onSettled called when there is something to take
   */
  constructor({
    runner,
    heldMax,
    onSettled,
  }: {
    runner: Pick<ModelRunner, "expectAdapter">;
    heldMax: number;
    onSettled: () => void;
  }) {
    this.#runner = runner;
    this.#heldMax = heldMax;
    this.#onSettled = onSettled;
  }

  get hasSettled(): boolean {
    return this.#settled.length > 0;
  }

  /** One that is known already has its numbers at another place from now on. */
  add(adapter: PackedAdapter): void {
    const { digest } = adapter;
    const unready = this.#unready.get(digest);
    if (unready) {
      unready.adapter = adapter;
      if (!unready.isExpected) this.#expect(unready);
    } else if (this.#ready.has(digest)) this.#know(adapter, []);
    else this.#expect({ adapter, held: [], isExpected: false });
  }

  /** Absent while it cannot be used. */
  get(digest: string): PackedAdapter | undefined {
    return this.#ready.get(digest);
  }

  bytesOf(digest: string): number {
    return this.#bytes.get(digest) ?? 1;
  }

  /**
   * Whether the sequence has to wait for its adapter; it is handed back when that has settled.
   * @throws HubError `server_is_overloaded`
   */
  hold(request: SequenceRequest): boolean {
    const unready = request.adapter === undefined ? undefined : this.#unready.get(request.adapter);
    if (!unready) return false;
    if (this.#heldCount() >= this.#heldMax) throw tooManyWait();
    unready.held.push(request);
    if (!unready.isExpected) this.#expect(unready);
    return true;
  }

  /** Whether somebody is held for it. */
  needs(digest: string): boolean {
    const holds = (one?: { held: SequenceRequest[] }) => (one?.held.length ?? 0) > 0;
    if (holds(this.#unready.get(digest))) return true;
    return this.#settled.some((one) => one.digest === digest && holds(one));
  }

  cancel(id: number): void {
    const without = (held: SequenceRequest[]) => held.filter((request) => request.id !== id);
    for (const unready of this.#unready.values()) unready.held = without(unready.held);
    for (const settled of this.#settled) settled.held = without(settled.held);
  }

  delete(digest: string): void {
    this.#ready.delete(digest);
    this.#bytes.delete(digest);
    this.#unready.delete(digest);
  }

  takeSettled(): Settled[] {
    return this.#settled.splice(0);
  }

  #expect(unready: Unready): void {
    const { digest } = unready.adapter;
    const expected = this.#runner.expectAdapter?.(unready.adapter);
    if (!expected) {
      this.#know(unready.adapter, unready.held.splice(0));
      return;
    }
    unready.isExpected = true;
    this.#unready.set(digest, unready);
    const settle = (error?: HubError) => {
      // It was forgotten meanwhile, and may be known anew.
      if (this.#unready.get(digest) !== unready) return;
      unready.isExpected = false;
      const held = unready.held.splice(0);
      if (error === undefined) this.#know(unready.adapter, held);
      else this.#settle({ digest, held, error });
    };
    expected.then(
      () => settle(),
      (error: unknown) => settle(asHubError(error)),
    );
  }

  #know(adapter: PackedAdapter, held: SequenceRequest[]): void {
    const { digest } = adapter;
    this.#unready.delete(digest);
    this.#ready.set(digest, adapter);
    this.#bytes.set(digest, Math.max(1, packedBytes(adapter)));
    this.#settle({ digest, held });
  }

  #settle(settled: Settled): void {
    this.#settled.push(settled);
    this.#onSettled();
  }

  #heldCount(): number {
    let count = 0;
    for (const { held } of this.#unready.values()) count += held.length;
    return count;
  }
}

type Unready = {
  adapter: PackedAdapter;
  /** In the order in which they came. */
  held: SequenceRequest[];
  /** Whether the runner is at it. */
  isExpected: boolean;
};

function tooManyWait(): HubError {
  return new HubError("server_is_overloaded", "Too many requests wait for adapters to be ready.", {
    retryAfterMs: 1000,
  });
}
