import { expect, test } from "vitest";
import { unknownUrl } from "./unknown-url.ts";

test.each([
  ["/chat/completions", "Is '/v1' missing?"],
  ["/models", "Is '/v1' missing?"],
  ["/v1/v1/messages", "twice"],
  ["/v1beta/v1beta/models/m:generateContent", "twice"],
  ["/openai/deployments/gpt-4o/chat/completions", "OpenAI's own client"],
  ["/v1/vector_stores", "not served"],
  ["/v1/messages/batches", "'/v1/batches'"],
  ["/v1beta/models/m:batchEmbedContents", "'/v1/embeddings'"],
  ["/v1beta/models/m:embedContent", "'/v1/embeddings'"],
  ["/v1beta/files", "ask Google"],
  ["/model/m/invoke-with-response-stream", "ConverseStream"],
  ["/v1/chat/completion", "typos"],
  ["/modelsX", "typos"],
])("whoever asks %s is told what may be wrong", (path, told) => {
  const error = unknownUrl({ method: "POST", path });
  expect(error).toMatchObject({ code: "unknown_url", status: 404 });
  expect(error.message).toContain(told);
});
