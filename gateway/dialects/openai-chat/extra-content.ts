/**
 * Where Google's signature on a tool call stands in a chat completion. Clients that send messages back as they got them
 * keep it, and Gemini 3 does without none.
 * @see https://ai.google.dev/gemini-api/docs/thought-signatures, as its OpenAI-compatible address has it
 */
import { z } from "zod";
import { markSeal, openSeal } from "../../canonical/seal.ts";

export function writeExtraContent(signature: string | undefined): {
  extra_content?: z.infer<typeof extraContent>;
} {
  const thought_signature = openSeal("google", signature);
  return thought_signature === undefined
    ? {}
    : { extra_content: { google: { thought_signature } } };
}

export function readExtraContent(extra: unknown): { signature?: string } {
  const signature = extraContent.safeParse(extra).data?.google.thought_signature;
  return signature === undefined ? {} : { signature: markSeal("google", signature) };
}

const extraContent = z.object({ google: z.object({ thought_signature: z.string() }) });
