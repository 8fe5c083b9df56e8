/** The keys of `CONTENT_LOG_KEY`, which seal the data keys that seal contents. They are in no database. */
import { hash } from "node:crypto";
import { keyBytes, seal, unseal } from "./seal.ts";

/** A data key as the database has it. */
export type WrappedKey = { masterKeyId: string; wrapped: Uint8Array };

/** What a data key is for: it opens as nobody else's. */
export type KeyPlace = { id: string; projectId: string };

export class MasterKeys {
  /** Seals what is new; the others only open what was sealed before them. */
  readonly #first: { id: string; key: Buffer } | undefined;
  readonly #keys: ReadonlyMap<string, Buffer>;

  /**
   * @param text keys joined by commas, the one in force first; each 32 bytes in base64, with a name before a colon or
   *   none: `2026-11:q83v…=,2026-05:7xNb…=`
   * @throws Error that shows nothing of a key
   */
  constructor(text: string | undefined) {
    const keys = (text ?? "")
      .split(/[\s,]+/)
      .filter(Boolean)
      .map(readKey);
    this.#first = keys[0];
    this.#keys = new Map(keys.map(({ id, key }) => [id, key]));
    if (this.#keys.size < keys.length) throw new Error("CONTENT_LOG_KEY names a key twice");
  }

  /** Whether anything can be sealed. */
  get any(): boolean {
    return this.#first !== undefined;
  }

  /** Of the one in force. */
  get firstId(): string | undefined {
    return this.#first?.id;
  }

  has(id: string): boolean {
    return this.#keys.has(id);
  }

  /** @throws Error where there is no key */
  wrap(dataKey: Uint8Array, place: KeyPlace): WrappedKey {
    if (!this.#first) throw new Error("there is no key to seal with");
    const { id, key } = this.#first;
    return { masterKeyId: id, wrapped: seal(dataKey, key, placeOf(id, place)) };
  }

  /** @returns nothing where no key of ours fits */
  unwrap({ masterKeyId, wrapped }: WrappedKey, place: KeyPlace): Buffer | undefined {
    const key = this.#keys.get(masterKeyId);
    return key && unseal(wrapped, key, placeOf(masterKeyId, place));
  }
}

function placeOf(masterKeyId: string, { id, projectId }: KeyPlace): string {
  return `switchyard content key 1\n${masterKeyId}\n${projectId}\n${id}`;
}

function readKey(text: string): { id: string; key: Buffer } {
  const [, name, base64 = ""] = /^(?:([a-z0-9][a-z0-9._-]{0,31}):)?(.*)$/.exec(text) ?? [];
  const key = Buffer.from(base64, "base64");
  if (key.length !== keyBytes || !/^[A-Za-z0-9+/_-]{43}=?$/.test(base64)) {
    throw new Error(
      "CONTENT_LOG_KEY: expected 32 random bytes in base64, such as `openssl rand -base64 32` writes, with `name:` before it or nothing",
    );
  }
  // Of 256 random bits 32 of a hash tell nothing.
  return { id: name ?? hash("sha256", key).slice(0, 8), key };
}
