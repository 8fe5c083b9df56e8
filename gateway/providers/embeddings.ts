/** OpenAI's embeddings where a provider makes them in its own words: what is read of a request, and how vectors are told. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { PassingAnswer, PassingHead } from "./format.ts";

/**
 * @param textsMax how many the provider takes at once
 * @throws HubError `unsupported_parameter` for tokens by their ids, which are another model's; `invalid_value`
 */
export function textsOf(input: unknown, textsMax: number): string[] {
  const texts = [input].flat();
  if (!texts.every((text) => typeof text === "string")) {
    throw new HubError(
      "unsupported_parameter",
      "Unsupported parameter: 'input'. This model reads texts; token ids are of another model's.",
      { param: "input" },
    );
  }
  if (texts.length > textsMax) {
    const many = textsMax === 1 ? "one text" : `at most ${textsMax} texts`;
    throw new HubError("invalid_value", `Invalid 'input': this model takes ${many} at once.`, {
      param: "input",
    });
  }
  return texts;
}

/** Fields that were given and have no place. */
export function given(rest: Readonly<Record<string, unknown>>): string[] {
  return Object.keys(rest).filter((field) => rest[field] != null);
}

/**
 * @param vectors in the order of the texts; those in base64 are told as they are
 * @param input   tokens that were read, where the provider tells
 */
export function writeVectors(
  vectors: readonly (readonly number[] | string)[],
  { model, body, input }: Pick<PassingHead, "model" | "body"> & { input: number | undefined },
): PassingAnswer {
  const inBase64 = body.encoding_format === "base64";
  const written = {
    object: "list",
    data: vectors.map((vector, index) => ({
      object: "embedding",
      index,
      embedding: inBase64 && typeof vector !== "string" ? toBase64(vector) : vector,
    })),
    model,
    ...(input !== undefined && { usage: { prompt_tokens: input, total_tokens: input } }),
  };
  return {
    bytes: Buffer.from(JSON.stringify(written)),
    usage: input === undefined ? undefined : { usage: { input }, inconsistent: false },
    text: "",
  };
}

export function noEmbeddings(): HubError {
  return new HubError("upstream_error", "The upstream's answer is no embeddings.");
}

/** As OpenAI writes them: 32-bit floats, little-endian. */
function toBase64(values: readonly number[]): string {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeFloatLE(value, index * 4);
  return bytes.toString("base64");
}
