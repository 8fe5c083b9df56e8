/**
 * Signatures on what a model thought. Only the provider that made one takes it back, and a conversation may pass from
 * one provider to another: so each is kept with the name of its maker, and nobody is sent another's.
 */

/** Makers whose signatures carry their name, encrypted thoughts too. */
export type SealMaker = "anthropic" | "google" | "bedrock" | "openai" | "cohere";

export function markSeal(maker: SealMaker, signature: string): string {
  return `${maker}:${signature}`;
}

/** @returns the signature as its maker wrote it; `undefined` for another's */
export function openSeal(maker: SealMaker, signature: string | undefined): string | undefined {
  return signature?.startsWith(`${maker}:`) ? signature.slice(maker.length + 1) : undefined;
}
