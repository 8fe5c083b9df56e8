/** `POST /v1/moderations`: what a text or a picture would be refused for. */
import { z } from "zod";
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { Call } from "../dialect.ts";
import {
  guessTokens,
  type MediaParts,
  mediaDialect,
  readJsonFields,
  readMediaCall,
} from "./call.ts";

export const openAiModerations = mediaDialect("openai-moderations");

/** @throws HubError naming the field */
export async function readModerationsCall(request: Request, parts: MediaParts): Promise<Call> {
  const came = await readJsonFields(request, parts);
  const { model, input } = parseOrThrow(moderationsRequest, came.fields);
  const items = [input].flat();
  const images = items.filter(
    (item) => typeof item !== "string" && item.type === "image_url",
  ).length;
  const texts = items.map((item) => (typeof item === "string" ? item : (item.text ?? "")));
  return readMediaCall({ ...came, fields: { ...came.fields, model } }, openAiModerations, () => ({
    texts,
    outputTokensMax: 0,
    images: () => images,
    tariffs: ({ inputTokens }) => [[{ quantity: inputTokens, meters: ["input"] }]],
    // OpenAI tells no usage: it bills none. Whoever does is taken at a guess.
    measure: ({ told }) => ({
      usage: told ?? {
        input: guessTokens(came.bytes) + images * parts.limits.imageTokens,
      },
      estimated: told === undefined,
    }),
  }));
}

export const moderationsRequest = z.looseObject({
  /** OpenAI's own default. */
  model: z
    .string()
    .min(1)
    .max(512)
    .nullish()
    .transform((model) => model ?? "omni-moderation-latest"),
  input: z.union([
    z.string(),
    z.array(z.string()).min(1),
    z.array(z.looseObject({ type: z.string(), text: z.string().nullish() })).min(1),
  ]),
});
