/** Requests that were being computed when the engine died: computed apart from others next time, then no more. */
import { createHash } from "node:crypto";
import { HubError } from "../../sdk/protocol/errors.ts";

/** What the outcome of a computation depends on: the prompt and the weights. */
export type Subject = { prompt: readonly number[]; adapter?: string | undefined };

/**
 * A death accuses everybody who was in the native call. One of them may be the cause; so when one comes
 * again it gets calls of its own, beside the others'. Whoever ends well is cleared. Whoever is alone in the
 * call at another death is the cause, and is refused from then on: a request that kills the engine costs
 * two deaths, however often it is sent, and no other is refused for it.
 */
export class Suspects {
  readonly #accused = new Set<string>();
  readonly #convicted = new Set<string>();

  /** The engine died in a call with these. */
  accuse(subjects: readonly Subject[]): void {
    const keys = [...new Set(subjects.map(keyOf))];
    const [only] = keys;
    if (only !== undefined && keys.length === 1 && this.#accused.delete(only)) {
      keep(this.#convicted, only);
    } else {
      for (const key of keys) keep(this.#accused, key);
    }
  }

  /** The subject was computed to its end. */
  clear(subject: Subject): void {
    if (this.#accused.size > 0) this.#accused.delete(keyOf(subject));
  }

  /**
   * Whether the subject has to be computed apart from others.
   * @throws HubError `request_quarantined` when it is the cause of deaths
   */
  isAccused(subject: Subject): boolean {
    if (this.#accused.size + this.#convicted.size === 0) return false;
    const key = keyOf(subject);
    if (!this.#convicted.has(key)) return this.#accused.has(key);
    throw new HubError(
      "request_quarantined",
      "The engine died twice while it computed this request, so it is not tried again. The server's log has the reasons.",
    );
  }
}

function keyOf({ prompt, adapter }: Subject): string {
  return createHash("sha256")
    .update(`${adapter ?? ""}\n`)
    .update(Int32Array.from(prompt))
    .digest("base64");
}

/** The oldest is forgotten first. */
function keep(keys: Set<string>, key: string): void {
  keys.add(key);
  const [oldest] = keys;
  if (keys.size > keptMax && oldest !== undefined) keys.delete(oldest);
}

const keptMax = 1000;
