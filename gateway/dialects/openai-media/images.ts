/** `POST /v1/images/generations`, `/edits` and `/variations`: images, whole or as they come about. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { Tariff } from "../../ledger/price-book.ts";
import type { Answered, Call, Dialect } from "../dialect.ts";
import {
  type Came,
  formCount,
  formTruth,
  guessTokens,
  isForm,
  type MediaParts,
  mediaDialect,
  readFormFields,
  readJsonFields,
  readMediaCall,
  requireFiles,
} from "./call.ts";

export const openAiGenerations = mediaDialect("openai-image-generations");
export const openAiEdits = mediaDialect("openai-image-edits");
export const openAiVariations = mediaDialect("openai-image-variations");

/** @throws HubError naming the field */
export async function readGenerationsCall(request: Request, parts: MediaParts): Promise<Call> {
  return readImagesCall(await readJsonFields(request, parts), openAiGenerations, parts);
}

/** A form with the images, or JSON that tells where they are. @throws HubError naming the field */
export async function readEditsCall(request: Request, parts: MediaParts): Promise<Call> {
  if (!isForm(request)) {
    return readImagesCall(await readJsonFields(request, parts), openAiEdits, parts);
  }
  const came = await readFormFields(request, parts);
  return readImagesCall(came, openAiEdits, parts);
}

/** @throws HubError naming the field */
export async function readVariationsCall(request: Request, parts: MediaParts): Promise<Call> {
  return readImagesCall(await readFormFields(request, parts), openAiVariations, parts);
}

function readImagesCall(came: Came, dialect: Dialect, { limits }: MediaParts): Promise<Call> {
  return readMediaCall(came, dialect, () => {
    const { form, fields, bytes } = came;
    if (form) requireFiles(form, /^image(?:\[\d*\])?$/, "image");
    refuseOtherModels(fields);
    const { prompt, n, stream, partial_images, images } = parseOrThrow(imagesRequest, fields);
    const made = n ?? 1;
    const seen = form ? form.files.length : (images?.length ?? 0);
    // Each one that is shown while it comes about costs as a small image does.
    const outputTokens = made * (1 + (partial_images ?? 0) / 8) * limits.outputImageTokens;
    return {
      texts: [prompt ?? ""],
      stream,
      outputTokensMax: Math.ceil(outputTokens),
      images: () => seen,
      tariffs: ({ inputTokens }) => tariffsOf({ made, inputTokens, outputTokens }),
      measure: (answered) => measure(answered, { made, input: guessTokens(bytes) }),
    };
  });
}

type Bound = { made: number; inputTokens: number; outputTokens: number };

function tariffsOf({ made, inputTokens, outputTokens }: Bound): Tariff[] {
  return [
    [{ quantity: made, meters: ["images"] }],
    [
      {
        quantity: inputTokens,
        meters: ["input", "input_image", "cache_read", "cache_read_image"],
      },
      { quantity: Math.ceil(outputTokens), meters: ["output_image", "output", "reasoning"] },
    ],
  ];
}

/**
 * An answer tells at least how many images there are. Of one that nobody saw, the client having left, it is taken that
 * all were made; where tokens are billed, only what was asked is, as with a chat that was left.
 */
function measure({ told }: Answered, { made, input }: { made: number; input: number }) {
  if (told) return { usage: told, estimated: false };
  return { usage: { input, images: made }, estimated: true };
}

/** A model that the upstream would bill for, and that was not asked for by a name of ours. */
function refuseOtherModels(fields: Readonly<Record<string, unknown>>): void {
  const { svg } = fields;
  const inForm = fields["svg[model]"] != null;
  if (
    !inForm &&
    (typeof svg !== "object" || svg === null || !("model" in svg) || svg.model == null)
  )
    return;
  throw new HubError(
    "unsupported_parameter",
    "Unsupported parameter: 'svg.model' names a model beside the one that is asked, which this gateway could not meter.",
    { param: "svg.model" },
  );
}

export const imagesRequest = z.looseObject({
  prompt: z
    .string()
    .max(1 << 20)
    .nullish(),
  n: formCount,
  stream: formTruth,
  partial_images: z.coerce.number().pipe(z.int().min(0).max(16)).nullish(),
  /** Of an edit as JSON. */
  images: z.array(z.unknown()).max(128).nullish(),
});
