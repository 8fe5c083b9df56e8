/**
 * Signatures as clients of this dialect keep them: Anthropic's own are bare, as in its answers that pass; all others
 * carry the name of their maker, so that they are never taken for Anthropic's.
 */
import { markSeal, openSeal } from "../../canonical/seal.ts";

export function toClientSeal(seal: string): string {
  return openSeal("anthropic", seal) ?? (makers.test(seal) ? seal : `other:${seal}`);
}

/** Undoes `toClientSeal`. */
export function fromClientSeal(seal: string): string {
  if (seal.startsWith("other:")) return seal.slice("other:".length);
  return makers.test(seal) ? seal : markSeal("anthropic", seal);
}

/** Whether Anthropic could have made it. Reasoning that nobody signed has an empty one. */
export function isForeignSeal(seal: unknown): boolean {
  return typeof seal !== "string" || seal === "" || makers.test(seal);
}

/** A tool call has no place for a seal of its own, as Gemini gives it; it stands in a block of thinking before it. */
export function toCallSeal(seal: string): string {
  return callMark + toClientSeal(seal);
}

export function fromCallSeal(seal: string): string | undefined {
  return seal.startsWith(callMark) ? fromClientSeal(seal.slice(callMark.length)) : undefined;
}

/** Anthropic's are base64. */
const makers = /^[a-z-]+:/;
const callMark = "call:";
