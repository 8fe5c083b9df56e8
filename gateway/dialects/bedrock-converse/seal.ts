/** What providers sign, as Converse's reasoning has it: Bedrock's own as it is, others' with their maker's name. */
import type { ReasoningPart } from "../../canonical/request.ts";
import { markSeal, openSeal } from "../../canonical/seal.ts";

export type Seal = Pick<ReasoningPart, "signature" | "encrypted">;
type Written = { signature?: string; redactedContent?: string };

/** What is redacted is bytes there, and so base64. */
export function toClientSeal({ signature, encrypted }: Seal): Written {
  if (encrypted !== undefined) {
    const own = openSeal("bedrock", encrypted);
    return { redactedContent: own ?? Buffer.from(encrypted).toString("base64") };
  }
  if (signature === undefined) return {};
  return { signature: openSeal("bedrock", signature) ?? signature };
}

export function fromClientSeal({
  signature,
  redactedContent,
}: { [name in keyof Written]?: string | null | undefined }): Seal {
  if (redactedContent) {
    const text = Buffer.from(redactedContent, "base64").toString();
    return { encrypted: makers.test(text) ? text : markSeal("bedrock", redactedContent) };
  }
  if (!signature) return {};
  return { signature: makers.test(signature) ? signature : markSeal("bedrock", signature) };
}

const makers = /^[a-z-]{2,20}:/;
