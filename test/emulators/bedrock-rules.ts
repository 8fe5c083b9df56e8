/** What Converse refuses: the guard that finds bodies which were not, or wrongly, translated. */
import { z } from "zod";

const fields = z.record(z.string(), z.unknown());
const bytes = z.strictObject({ bytes: z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/) });
const text = z.strictObject({ text: z.string().regex(/\S/) });
const cachePoint = z.strictObject({
  cachePoint: z.strictObject({
    type: z.literal("default"),
    ttl: z.enum(["5m", "1h"]).optional(),
  }),
});
const image = z.strictObject({
  image: z.strictObject({ format: z.enum(["png", "jpeg", "gif", "webp"]), source: bytes }),
});
const document = z.strictObject({
  document: z.looseObject({
    format: z.enum(["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"]).optional(),
    name: z.string().regex(/^[A-Za-z0-9()[\]-]+( [A-Za-z0-9()[\]-]+)*$/),
    source: z.union([bytes, z.strictObject({ text: z.string() })]),
  }),
});
const audio = z.strictObject({ audio: z.strictObject({ format: z.string(), source: bytes }) });
const id = z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/);
const toolUse = z.strictObject({
  toolUse: z.strictObject({ toolUseId: id, name: z.string(), input: fields }),
});
const toolResult = z.strictObject({
  toolResult: z.strictObject({
    toolUseId: id,
    content: z.array(z.union([text, z.strictObject({ json: fields }), image, document])).min(1),
    status: z.enum(["success", "error"]).optional(),
  }),
});
const reasoning = z.strictObject({
  reasoningContent: z.union([
    z.strictObject({
      // Its own signatures are base64; another's it cannot check.
      reasoningText: z.strictObject({
        text: z.string(),
        signature: z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/),
      }),
    }),
    z.strictObject({ redactedContent: z.string() }),
  ]),
});
const citations = z.strictObject({ citationsContent: z.looseObject({}) });
const tool = z.union([
  z.strictObject({
    toolSpec: z.strictObject({
      name: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/),
      description: z.string().min(1).optional(),
      inputSchema: z.strictObject({ json: z.looseObject({ type: z.literal("object") }) }),
      strict: z.boolean().optional(),
    }),
  }),
  cachePoint,
  z.strictObject({ systemTool: z.strictObject({ name: z.string() }) }),
]);

const converseBody = z.strictObject({
  messages: z
    .array(
      z.discriminatedUnion("role", [
        z.strictObject({
          role: z.literal("user"),
          content: z.array(z.union([text, image, document, audio, toolResult, cachePoint])).min(1),
        }),
        z.strictObject({
          role: z.literal("assistant"),
          content: z.array(z.union([text, toolUse, reasoning, citations, cachePoint])).min(1),
        }),
      ]),
    )
    .min(1),
  system: z
    .array(z.union([text, cachePoint]))
    .min(1)
    .optional(),
  inferenceConfig: z
    .strictObject({
      maxTokens: z.int().positive().optional(),
      temperature: z.number().min(0).max(1).optional(),
      topP: z.number().min(0).max(1).optional(),
      stopSequences: z.array(z.string().min(1)).min(1).optional(),
    })
    .optional(),
  toolConfig: z
    .strictObject({
      tools: z.array(tool).min(1),
      toolChoice: z
        .union([
          z.strictObject({ auto: z.strictObject({}) }),
          z.strictObject({ any: z.strictObject({}) }),
          z.strictObject({ tool: z.strictObject({ name: z.string() }) }),
        ])
        .optional(),
    })
    .optional(),
  outputConfig: z
    .strictObject({
      textFormat: z
        .strictObject({
          type: z.literal("json_schema"),
          structure: z.strictObject({
            jsonSchema: z.strictObject({
              schema: z.string(),
              name: z.string().optional(),
              description: z.string().optional(),
            }),
          }),
        })
        .optional(),
      effort: z.string().optional(),
    })
    .optional(),
  additionalModelRequestFields: fields.optional(),
  additionalModelResponseFieldPaths: z.array(z.string()).optional(),
  requestMetadata: z.record(z.string(), z.string()).optional(),
  serviceTier: z
    .strictObject({ type: z.enum(["default", "flex", "priority", "reserved"]) })
    .optional(),
  guardrailConfig: fields.optional(),
  promptVariables: fields.optional(),
  performanceConfig: fields.optional(),
});

/** The first thing that is wrong with a request. */
export function findFault(body: unknown): string | undefined {
  const parsed = converseBody.safeParse(body);
  if (!parsed.success) return z.prettifyError(parsed.error);
  const { messages, toolConfig } = parsed.data;
  if (messages[0]?.role !== "user") return "A conversation must start with a user message.";
  if (messages.some(({ role }, at) => role === messages[at + 1]?.role)) {
    return "A conversation must alternate between user and assistant roles.";
  }
  const blocks = messages.flatMap(({ content }): object[] => content);
  if (!toolConfig && blocks.some((block) => "toolUse" in block || "toolResult" in block)) {
    return "The toolConfig field must be defined when using toolUse and toolResult content blocks.";
  }
  for (const [index, { content }] of messages.entries()) {
    const asked = content.flatMap((one) => ("toolUse" in one ? [one.toolUse.toolUseId] : []));
    const next = messages[index + 1]?.content ?? [];
    const answered = next.flatMap((one) => ("toolResult" in one ? [one.toolResult.toolUseId] : []));
    if (messages[index + 1] && asked.some((id) => !answered.includes(id))) {
      return `Expected toolResult blocks at messages.${index + 1}.content for the following Ids: ${asked.join()}`;
    }
    if (answered.some((id) => !asked.includes(id))) {
      return `The number of toolResult blocks at messages.${index + 1}.content exceeds the number of toolUse blocks of previous turn.`;
    }
  }
  return undefined;
}
