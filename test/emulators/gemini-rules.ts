/** What Google refuses: the guard that finds bodies which were not, or wrongly, translated. */
import { z } from "zod";

const fields = z.record(z.string(), z.unknown());
const base64 = z.string().regex(/^[A-Za-z0-9+/_-]+={0,2}$/);
const inlineData = z.strictObject({ mimeType: z.string(), data: base64 });
const fileData = z.strictObject({ mimeType: z.string().optional(), fileUri: z.string() });
const part = z.strictObject({
  text: z.string().optional(),
  thought: z.boolean().optional(),
  thoughtSignature: base64.optional(),
  inlineData: inlineData.optional(),
  fileData: fileData.optional(),
  functionCall: z
    .strictObject({ id: z.string().optional(), name: z.string(), args: fields.optional() })
    .optional(),
  functionResponse: z
    .strictObject({
      id: z.string().optional(),
      name: z.string().min(1),
      response: fields,
      parts: z
        .array(z.strictObject({ inlineData: inlineData.optional(), fileData: fileData.optional() }))
        .optional(),
    })
    .optional(),
});
const content = z.strictObject({
  role: z.enum(["user", "model"]).optional(),
  parts: z.array(part).min(1),
});

/** Schemas are free below; an unknown keyword in them is ignored. */
const declaration = z.strictObject({
  name: z.string().regex(/^[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}$/),
  description: z.string().optional(),
  parameters: fields.optional(),
  parametersJsonSchema: fields.optional(),
});

const generateBody = z.strictObject({
  contents: z.array(content).min(1),
  systemInstruction: z
    .strictObject({ role: z.string().optional(), parts: z.array(part) })
    .optional(),
  tools: z
    .array(z.looseObject({ functionDeclarations: z.array(declaration).optional() }))
    .optional(),
  toolConfig: z
    .strictObject({
      functionCallingConfig: z.strictObject({
        mode: z.enum(["AUTO", "ANY", "NONE", "VALIDATED"]).optional(),
        allowedFunctionNames: z.array(z.string()).optional(),
      }),
    })
    .optional(),
  generationConfig: z
    .strictObject({
      temperature: z.number().min(0).max(2).optional(),
      topP: z.number().optional(),
      topK: z.number().optional(),
      candidateCount: z.int().min(1).max(8).optional(),
      maxOutputTokens: z.int().positive().optional(),
      stopSequences: z.array(z.string()).max(5).optional(),
      frequencyPenalty: z.number().optional(),
      presencePenalty: z.number().optional(),
      seed: z.int().optional(),
      responseLogprobs: z.boolean().optional(),
      logprobs: z.int().min(1).max(20).optional(),
      responseMimeType: z.enum(["text/plain", "application/json"]).optional(),
      responseSchema: fields.optional(),
      responseJsonSchema: fields.optional(),
      responseModalities: z.array(z.string()).optional(),
      thinkingConfig: z
        .strictObject({
          includeThoughts: z.boolean().optional(),
          thinkingBudget: z.int().optional(),
          thinkingLevel: z
            .string()
            .regex(/^(minimal|low|medium|high)$/i)
            .optional(),
        })
        .optional(),
    })
    .optional(),
  safetySettings: z.array(fields).optional(),
  cachedContent: z.string().optional(),
  labels: z.record(z.string(), z.string()).optional(),
  serviceTier: z.string().optional(),
  store: z.boolean().optional(),
});

/** The first thing that is wrong with a request whose names are in camel case, and where. */
export function findFault(body: unknown): { field: string; message: string } | undefined {
  const parsed = generateBody.safeParse(body);
  if (!parsed.success) {
    const [first] = parsed.error.issues;
    const unknown = first?.code === "unrecognized_keys" ? first.keys.slice(0, 1) : [];
    const field = [...(first?.path ?? []), ...unknown].join(".");
    const message = `Invalid JSON payload received. ${z.prettifyError(parsed.error)}`;
    return { field, message };
  }
  const calls = parsed.data.contents.map(({ parts }) => parts.filter((one) => one.functionCall));
  const answers = parsed.data.contents.map(({ parts }) =>
    parts.filter((one) => one.functionResponse),
  );
  // A turn of results has as many as the turn of calls before it.
  const wrong = answers.findIndex(
    (results, index) => results.length > 0 && results.length !== calls[index - 1]?.length,
  );
  if (wrong < 0) return undefined;
  const message =
    "Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn.";
  return { field: `contents.${wrong}`, message };
}
