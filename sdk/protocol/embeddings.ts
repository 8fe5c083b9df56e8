/** `POST /v1/embeddings`: the request as clients may send it, and the answer as we send it. */
import { z } from "zod";

const tokens = z.array(z.int().nonnegative()).min(1);

/** Other fields survive untouched, because a provider behind the gateway may want them. `null` means the default. */
export const embeddingsRequest = z.looseObject({
  model: z.string().min(1).max(512),
  /** A text or some, a text's tokens or those of some. */
  input: z.union([
    z.string().min(1),
    z.array(z.string().min(1)).min(1),
    tokens,
    z.array(tokens).min(1),
  ]),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.int().min(1).nullish(),
  user: z.string().max(512).nullish(),
});

export type EmbeddingsResponse = {
  object: "list";
  /** In the order of the inputs. A string is float32, little-endian, in base64. */
  data: { object: "embedding"; index: number; embedding: number[] | string }[];
  model: string;
  usage: { prompt_tokens: number; total_tokens: number };
};
