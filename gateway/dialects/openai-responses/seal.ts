/** What providers sign or encrypt, as `encrypted_content`: OpenAI's own is bare, and others' keep the name of their maker. */
import type { ReasoningPart } from "../../canonical/request.ts";
import { markSeal, openSeal } from "../../canonical/seal.ts";

type Seal = Pick<ReasoningPart, "signature" | "encrypted">;

export function toEncryptedContent({ signature, encrypted }: Seal): string | undefined {
  if (encrypted !== undefined) return openSeal("openai", encrypted) ?? `encrypted:${encrypted}`;
  return signature === undefined ? undefined : `signature:${signature}`;
}

/** Undoes `toEncryptedContent`. */
export function fromEncryptedContent(content: string): Seal {
  const [kind, ...rest] = content.split(":");
  if (kind === "signature" || kind === "encrypted") return { [kind]: rest.join(":") };
  return { encrypted: markSeal("openai", content) };
}

/**
 * A signature on a call, such as Gemini's, which has no place in the call's own item: clients send back items of
 * reasoning as they got them, and so it stands in one before the call.
 */
export function toCallSeal(signature: string): string {
  return `call:${signature}`;
}

/** Undoes `toCallSeal`. */
export function fromCallSeal(content: string | null | undefined): string | undefined {
  return content?.startsWith("call:") ? content.slice("call:".length) : undefined;
}

/** Whether OpenAI could not have made it, and would refuse it. */
export function isForeignContent(content: unknown): boolean {
  return typeof content === "string" && /^(?:signature|encrypted|call):/.test(content);
}
