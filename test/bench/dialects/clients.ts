/** How clients of each dialect ask for a stream. */
import type { Asked } from "./programs/load.ts";
import type { WireFormat } from "./wire.ts";

export type AskOptions = { origin: string; key: string; model: string; promptBytes?: number };

/** @param promptBytes length of what is asked; some sentences when absent */
export function ask(dialect: WireFormat, { origin, key, model, promptBytes }: AskOptions): Asked {
  const sentence = "How long does a transfer to another bank take? ";
  const words =
    promptBytes === undefined
      ? sentence.repeat(4)
      : sentence.repeat(Math.ceil(promptBytes / sentence.length)).slice(0, promptBytes);
  const { path, body } = written(dialect, model, words);
  return {
    origin,
    path,
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${key}`,
      ...(dialect === "anthropic-messages" && { "anthropic-version": "2023-06-01" }),
    },
    body: JSON.stringify(body),
  };
}

const outputTokens = 256;

function written(dialect: WireFormat, model: string, text: string): { path: string; body: object } {
  const messages = [{ role: "user", content: text }];
  switch (dialect) {
    case "openai-chat":
      return {
        path: "/v1/chat/completions",
        body: {
          model,
          messages,
          stream: true,
          stream_options: { include_usage: true },
          max_completion_tokens: outputTokens,
        },
      };
    case "openai-responses":
      return {
        path: "/v1/responses",
        body: { model, input: text, stream: true, store: false, max_output_tokens: outputTokens },
      };
    case "anthropic-messages":
      return {
        path: "/v1/messages",
        body: { model, messages, stream: true, max_tokens: outputTokens },
      };
    case "gemini":
      return {
        path: `/v1beta/models/${model}:streamGenerateContent?alt=sse`,
        body: {
          contents: [{ role: "user", parts: [{ text }] }],
          generationConfig: { maxOutputTokens: outputTokens },
        },
      };
    case "bedrock-converse":
      return {
        path: `/model/${model}/converse-stream`,
        body: {
          messages: [{ role: "user", content: [{ text }] }],
          inferenceConfig: { maxTokens: outputTokens },
        },
      };
    default:
      return dialect satisfies never;
  }
}
