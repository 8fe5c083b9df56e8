/** Counts a prompt where its model is: by its own tokenizer and chat template. */
import { z } from "zod";
import type { Target } from "../../routing/resolve.ts";
import type { SpokenRequest } from "../format.ts";
import type { ProviderRequest } from "../provider.ts";

/** Messages alone are counted there; what else becomes tokens, such as tools, would be missing. */
export function writeCountRequest(
  { body }: SpokenRequest,
  { model }: Target,
  operatorKey: string | undefined,
): ProviderRequest | undefined {
  const { messages, tools, response_format } = body;
  if (tools != null || response_format != null) return undefined;
  return {
    path: "/tokenize",
    headers: {
      "content-type": "application/json",
      accept: "application/json",
      ...(operatorKey !== undefined && { authorization: `Bearer ${operatorKey}` }),
    },
    // Adapters share their base's tokenizer.
    body: JSON.stringify({ model: model.upstreamModel, messages }),
    dropped: [],
  };
}

/** @throws when the bytes are no count */
export function readCount(bytes: Uint8Array): number {
  return counted.parse(JSON.parse(new TextDecoder().decode(bytes))).count;
}

const counted = z.object({ count: z.int().nonnegative() });
