/** A rich request in each client dialect: tools and their results, pictures, schemas, thoughts. To be spoiled. */

export type SampleDialect =
  | "openai-chat"
  | "openai-completions"
  | "openai-responses"
  | "anthropic-messages"
  | "gemini"
  | "bedrock-converse";

export type SampleRequest = {
  path: string;
  headers?: Record<string, string>;
  body: Record<string, unknown>;
};

/** @param model as its client names it */
export function sampleRequest(
  dialect: SampleDialect,
  { model, stream }: { model: string; stream: boolean },
): SampleRequest {
  switch (dialect) {
    case "openai-chat":
      return { path: "/v1/chat/completions", body: { model, stream, ...chat } };
    case "openai-completions":
      return {
        path: "/v1/completions",
        body: { model, stream, prompt: ["One", "Two"], max_tokens: 8, temperature: 0.5, stop: "." },
      };
    case "openai-responses":
      return { path: "/v1/responses", body: { model, stream, store: false, ...responses } };
    case "anthropic-messages":
      return {
        path: "/v1/messages",
        headers: { "anthropic-version": "2023-06-01" },
        body: { model, stream, ...messages },
      };
    case "gemini":
      return {
        path: stream
          ? `/v1beta/models/${model}:streamGenerateContent?alt=sse`
          : `/v1beta/models/${model}:generateContent`,
        body: gemini,
      };
    case "bedrock-converse":
      return { path: `/model/${model}/${stream ? "converse-stream" : "converse"}`, body: converse };
    default:
      return dialect satisfies never;
  }
}

const png =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const parameters = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
  required: ["city"],
};
const schema = {
  type: "object",
  properties: { mood: { type: "string" } },
  required: ["mood"],
  additionalProperties: false,
};

const chat = {
  messages: [
    { role: "system", content: "Be kind." },
    {
      role: "user",
      content: [
        { type: "text", text: "What is this?" },
        { type: "image_url", image_url: { url: `data:image/png;base64,${png}`, detail: "low" } },
      ],
    },
    {
      role: "assistant",
      content: null,
      tool_calls: [
        {
          id: "call_1",
          type: "function",
          function: { name: "weather", arguments: '{"city":"Rome"}' },
        },
      ],
    },
    { role: "tool", tool_call_id: "call_1", content: "Sunny." },
    { role: "user", content: "And now?" },
  ],
  tools: [
    { type: "function", function: { name: "weather", description: "Tells it.", parameters } },
  ],
  tool_choice: "auto",
  response_format: { type: "json_schema", json_schema: { name: "mood", schema, strict: true } },
  max_completion_tokens: 64,
  temperature: 0.5,
  top_p: 0.9,
  stop: ["END"],
  seed: 7,
  user: "someone",
  metadata: { team: "a" },
  stream_options: { include_usage: true },
  reasoning_effort: "low",
};

const responses = {
  instructions: "Be kind.",
  input: [
    {
      role: "user",
      content: [
        { type: "input_text", text: "What is this?" },
        { type: "input_image", image_url: `data:image/png;base64,${png}` },
      ],
    },
    { type: "function_call", call_id: "call_1", name: "weather", arguments: '{"city":"Rome"}' },
    { type: "function_call_output", call_id: "call_1", output: "Sunny." },
    { type: "message", role: "user", content: "And now?" },
  ],
  tools: [
    { type: "function", name: "weather", description: "Tells it.", parameters, strict: false },
  ],
  tool_choice: "auto",
  parallel_tool_calls: true,
  text: { format: { type: "json_schema", name: "mood", schema, strict: true } },
  reasoning: { effort: "low" },
  max_output_tokens: 64,
  temperature: 0.5,
  metadata: { team: "a" },
};

const messages = {
  max_tokens: 64,
  system: [{ type: "text", text: "Be kind.", cache_control: { type: "ephemeral" } }],
  messages: [
    {
      role: "user",
      content: [
        { type: "text", text: "What is this?" },
        { type: "image", source: { type: "base64", media_type: "image/png", data: png } },
      ],
    },
    {
      role: "assistant",
      content: [
        { type: "text", text: "Let me see." },
        { type: "tool_use", id: "toolu_1", name: "weather", input: { city: "Rome" } },
      ],
    },
    {
      role: "user",
      content: [
        {
          type: "tool_result",
          tool_use_id: "toolu_1",
          content: [{ type: "text", text: "Sunny." }],
        },
      ],
    },
  ],
  tools: [{ name: "weather", description: "Tells it.", input_schema: parameters }],
  tool_choice: { type: "auto" },
  temperature: 0.5,
  stop_sequences: ["END"],
  metadata: { user_id: "someone" },
};

const gemini = {
  systemInstruction: { parts: [{ text: "Be kind." }] },
  contents: [
    {
      role: "user",
      parts: [{ text: "What is this?" }, { inlineData: { mimeType: "image/png", data: png } }],
    },
    { role: "model", parts: [{ functionCall: { name: "weather", args: { city: "Rome" } } }] },
    {
      role: "user",
      parts: [{ functionResponse: { name: "weather", response: { output: "Sunny." } } }],
    },
  ],
  tools: [{ functionDeclarations: [{ name: "weather", description: "Tells it.", parameters }] }],
  toolConfig: { functionCallingConfig: { mode: "AUTO" } },
  generationConfig: {
    maxOutputTokens: 64,
    temperature: 0.5,
    stopSequences: ["END"],
    responseMimeType: "application/json",
    responseSchema: { type: "OBJECT", properties: { mood: { type: "STRING" } } },
  },
  labels: { team: "a" },
};

const converse = {
  system: [{ text: "Be kind." }],
  messages: [
    {
      role: "user",
      content: [{ text: "What is this?" }, { image: { format: "png", source: { bytes: png } } }],
    },
    {
      role: "assistant",
      content: [{ toolUse: { toolUseId: "tooluse_1", name: "weather", input: { city: "Rome" } } }],
    },
    {
      role: "user",
      content: [
        {
          toolResult: { toolUseId: "tooluse_1", content: [{ text: "Sunny." }], status: "success" },
        },
      ],
    },
  ],
  inferenceConfig: { maxTokens: 64, temperature: 0.5, stopSequences: ["END"] },
  toolConfig: {
    tools: [
      {
        toolSpec: { name: "weather", description: "Tells it.", inputSchema: { json: parameters } },
      },
    ],
    toolChoice: { auto: {} },
  },
  requestMetadata: { team: "a" },
};
