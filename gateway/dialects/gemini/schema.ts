/** What is read of a request to Google's `generateContent`. Names come in camel case or, as Google takes them too, in snake case. */
import { z } from "zod";

/** A message of Google's. What is free-form below it, such as arguments or schemas, keeps its own names. */
function message<S extends z.ZodRawShape>(shape: S) {
  return z.preprocess(toCamelNames, z.looseObject(shape));
}

function toCamelNames(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      field,
    ]),
  );
}

const text = z.string().nullish();
const number = z.number().nullish();
const free = z.record(z.string(), z.unknown());

const blob = message({ mimeType: z.string(), data: z.string() });
const fileData = message({ mimeType: text, fileUri: z.string() });
const part = message({
  text,
  thought: z.boolean().nullish(),
  thoughtSignature: text,
  inlineData: blob.nullish(),
  fileData: fileData.nullish(),
  functionCall: message({ id: text, name: z.string(), args: free.nullish() }).nullish(),
  functionResponse: message({
    id: text,
    name: z.string(),
    response: free.nullish(),
    parts: z.array(message({ inlineData: blob.nullish(), fileData: fileData.nullish() })).nullish(),
  }).nullish(),
});
export type Part = z.infer<typeof part>;

const content = message({ role: text, parts: z.array(part).nullish() });
export type Content = z.infer<typeof content>;

const functionDeclaration = message({
  name: z.string(),
  description: text,
  /** In the words of OpenAPI 3.0, as Google writes them. */
  parameters: free.nullish(),
  parametersJsonSchema: free.nullish(),
});
const tool = message({ functionDeclarations: z.array(functionDeclaration).nullish() });

const mode = z
  .string()
  .transform((name) => name.toUpperCase())
  .pipe(z.enum(["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"]));
const toolConfig = message({
  functionCallingConfig: message({
    mode: mode.nullish(),
    allowedFunctionNames: z.array(z.string()).nullish(),
  }).nullish(),
});

const thinkingLevel = z
  .string()
  .transform((level) => level.toLowerCase())
  .pipe(z.enum(["thinking_level_unspecified", "minimal", "low", "medium", "high"]));
export const generationConfig = message({
  candidateCount: z.int().min(1).max(128).nullish(),
  maxOutputTokens: z.int().min(1).nullish(),
  stopSequences: z.array(z.string()).nullish(),
  temperature: number,
  topP: number,
  topK: number,
  seed: number,
  frequencyPenalty: number,
  presencePenalty: number,
  responseLogprobs: z.boolean().nullish(),
  logprobs: z.int().min(0).max(20).nullish(),
  responseMimeType: text,
  responseSchema: free.nullish(),
  responseJsonSchema: free.nullish(),
  responseModalities: z.array(z.string()).nullish(),
  thinkingConfig: message({
    includeThoughts: z.boolean().nullish(),
    thinkingBudget: z.int().min(-1).nullish(),
    thinkingLevel: thinkingLevel.nullish(),
  }).nullish(),
});

export const generateContentBody = message({
  contents: z.array(content).min(1),
  systemInstruction: content.nullish(),
  tools: z.array(tool).nullish(),
  toolConfig: toolConfig.nullish(),
  generationConfig: generationConfig.nullish(),
  cachedContent: text,
  labels: z.record(z.string(), z.string()).nullish(),
});
export type GenerateContentBody = z.infer<typeof generateContentBody>;

export const countTokensBody = message({
  generateContentRequest: z.preprocess(toCamelNames, z.looseObject({})).nullish(),
});
