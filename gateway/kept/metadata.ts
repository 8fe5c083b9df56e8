/** What clients attach to things that are kept, within OpenAI's bounds. */
import { z } from "zod";

// The database finds things by it, and its texts have no such characters.
const word = (charsMax: number) =>
  z
    .string()
    .max(charsMax)
    .refine(
      (text) => !/[\0\p{Surrogate}]/u.test(text),
      "expected a text without NUL characters and halves of surrogate pairs",
    );

export const metadata = z
  .record(word(64), word(512))
  .refine((pairs) => Object.keys(pairs).length <= 16, "expected at most 16 pairs of metadata");
export type Metadata = z.infer<typeof metadata>;
