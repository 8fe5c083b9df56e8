/** Names of a sequence's full blocks: hashes of all that their keys and values depend on. */
import { createHash } from "node:crypto";

/** What the keys and values of a sequence depend on, and who may know that they are there. */
export type Named = {
  tokens: readonly number[];
  /** Digest of the weights over the base; absent is the base alone. */
  adapter?: string | undefined;
  /** Whose blocks they are: nobody may learn from how fast an answer comes what another one asked. */
  tenant: string;
};

/**
 * Extends `names` to the sequence's first `count` blocks. Each name is the SHA-256 of the name before it and
 * of the block's tokens, and the first one's predecessor is made of adapter and tenant: equal names mean
 * equal tokens from the start of the sequence on, the same weights and the same tenant.
 */
export function nameBlocks(
  names: string[],
  { tokens, adapter, tenant }: Named,
  { count, blockSize }: { count: number; blockSize: number },
): void {
  if (names.length >= count) return;
  let name = names.at(-1) ?? sha256(JSON.stringify([tenant, adapter ?? null]));
  const block = new Int32Array(blockSize);
  for (let index = names.length; index < count; index++) {
    for (let i = 0; i < blockSize; i++) block[i] = tokens[index * blockSize + i]!;
    name = sha256(name, block);
    names.push(name);
  }
}

function sha256(...parts: (string | Int32Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("base64");
}
