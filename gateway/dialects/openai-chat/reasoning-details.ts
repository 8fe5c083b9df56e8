/**
 * Where signatures and encryption of thoughts stand in a chat completion, as OpenRouter has them. Clients that send messages
 * back as they got them keep them, and with them a model may go on from what it thought.
 * @see https://openrouter.ai/docs/use-cases/reasoning-tokens, read in November 2026
 */
import { z } from "zod";
import type { ReasoningPart } from "../../canonical/request.ts";

export type ReasoningDetail = z.infer<typeof reasoningDetail>;

/** @returns nothing for thoughts that nobody sealed: `reasoning_content` tells all there is */
export function writeDetails(parts: readonly ReasoningPart[]): {
  reasoning_details?: ReasoningDetail[];
} {
  if (!parts.some(isSealed)) return {};
  return { reasoning_details: parts.map(writeDetail) };
}

export function writeDetail(part: ReasoningPart, index: number): ReasoningDetail {
  const { text, signature, encrypted, id } = part;
  return {
    type: encrypted === undefined ? "reasoning.text" : "reasoning.encrypted",
    index,
    ...(text !== "" && { text }),
    ...(signature !== undefined && { signature }),
    ...(encrypted !== undefined && { data: encrypted }),
    ...(id !== undefined && { id }),
  };
}

/** Undoes `writeDetails`; others' that hold nothing to go on from are none. */
export function readDetails(details: unknown): ReasoningPart[] {
  const parts = z.array(reasoningDetail.nullable().catch(null)).safeParse(details).data ?? [];
  return parts.flatMap((detail): ReasoningPart[] => {
    if (!detail) return [];
    const { text, signature, data, id } = detail;
    if (text == null && signature == null && data == null) return [];
    return [
      {
        type: "reasoning",
        text: text ?? "",
        ...(signature != null && { signature }),
        ...(data != null && { encrypted: data }),
        ...(id != null && { id }),
      },
    ];
  });
}

export function isSealed({ signature, encrypted }: Omit<ReasoningPart, "type" | "text">): boolean {
  return signature !== undefined || encrypted !== undefined;
}

const optional = z.string().nullish();
const reasoningDetail = z.object({
  type: z.string(),
  index: z.int().nullish(),
  text: optional,
  signature: optional,
  /** Of encrypted ones. */
  data: optional,
  id: optional,
});
