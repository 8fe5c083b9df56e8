/** The fields that are read from Gemini's answers; all else passes by. */
import { z } from "zod";

const count = z.int().nonnegative().nullish().catch(undefined);
/** `promptTokenCount` contains the cached; thoughts and what tools put into the prompt stand beside. */
export const geminiUsage = z.object({
  promptTokenCount: z.int().nonnegative(),
  cachedContentTokenCount: count,
  toolUsePromptTokenCount: count,
  candidatesTokenCount: count,
  thoughtsTokenCount: count,
  totalTokenCount: count,
});

const text = z.string().nullish().catch(undefined);
const part = z.object({
  text,
  thought: z.boolean().nullish().catch(undefined),
  thoughtSignature: text,
  functionCall: z
    .object({ id: text, name: text, args: z.record(z.string(), z.unknown()).nullish() })
    .nullish()
    .catch(undefined),
});
export type GeminiPart = z.infer<typeof part>;

const tokenLogprob = z.object({ token: z.string(), logProbability: z.number() });
const logprobsResult = z
  .object({
    chosenCandidates: z.array(tokenLogprob).nullish(),
    topCandidates: z.array(z.object({ candidates: z.array(tokenLogprob).nullish() })).nullish(),
  })
  .nullish()
  .catch(undefined);

const index = z.int().nonnegative().nullish();
const segment = z.object({ startIndex: index, endIndex: index, text });
const groundingMetadata = z
  .object({
    groundingChunks: z
      .array(
        z.object({
          web: z.object({ uri: text, title: text }).nullish(),
          retrievedContext: z.object({ uri: text, title: text }).nullish(),
          maps: z.object({ uri: text, title: text }).nullish(),
        }),
      )
      .nullish(),
    groundingSupports: z
      .array(
        z.object({
          segment: segment.nullish(),
          groundingChunkIndices: z.array(z.int().nonnegative()).nullish(),
        }),
      )
      .nullish(),
  })
  .nullish()
  .catch(undefined);
const citationMetadata = z
  .object({
    citations: z
      .array(z.object({ startIndex: index, endIndex: index, uri: text, title: text }))
      .nullish(),
  })
  .nullish()
  .catch(undefined);

const candidate = z.object({
  index: z.int().min(0).max(127).nullish().catch(undefined),
  content: z
    .object({ parts: z.array(part).nullish() })
    .nullish()
    .catch(undefined),
  finishReason: text,
  finishMessage: text,
  groundingMetadata,
  citationMetadata,
  logprobsResult,
});
export type GeminiCandidate = z.infer<typeof candidate>;

/** A whole answer, and each chunk of a stream. One whose prompt was refused has no candidates. */
export const geminiAnswer = z
  .object({
    responseId: text,
    modelVersion: text,
    candidates: z.array(candidate).nullish(),
    promptFeedback: z.object({ blockReason: text }).nullish().catch(undefined),
    usageMetadata: z.unknown().optional(),
  })
  .refine(
    ({ candidates, promptFeedback, usageMetadata }) =>
      candidates != null || promptFeedback?.blockReason != null || usageMetadata != null,
  );
export type GeminiAnswer = z.infer<typeof geminiAnswer>;

/** Google leaves out what is zero. */
export const tokenCount = z.object({ totalTokens: z.int().nonnegative().default(0) });

const error = z.object({
  error: z.object({
    code: z.number().nullish(),
    message: z.string().nullish(),
    status: z.string().nullish(),
    details: z.array(z.record(z.string(), z.unknown())).nullish().catch(undefined),
  }),
});
/** Some answers wrap the error into an array, as a stream without `alt=sse` would be. */
export const geminiError = z.union([error, z.tuple([error], z.unknown()).transform(([it]) => it)]);
