/** What OpenAI's dialects have in common: their SDK, what it tells of a refusal, and how files are sent. */
import assert from "node:assert/strict";
import OpenAI from "openai";
import type { Part } from "../neutral.ts";
import { dataUrl } from "./raw.ts";

export const statuses = { failed: 502, overloaded: 503 };

export function openClient({ url, apiKey }: { url: string; apiKey: string }): OpenAI {
  return new OpenAI({ apiKey, baseURL: `${url}/v1`, maxRetries: 0 });
}

/** @param kind what the SDK has to have thrown */
export function refusalOf(
  thrown: unknown,
  kind: typeof OpenAI.OpenAIError | typeof OpenAI.APIError = OpenAI.APIError,
) {
  assert.ok(thrown instanceof kind, `no error of OpenAI's SDK: ${thrown}`);
  const { status, param, message } = thrown as InstanceType<typeof OpenAI.APIError>;
  return { status, message: `${param}: ${message}` };
}

export function fileOf(part: Extract<Part, { type: "pdf" | "text_file" }>) {
  const isPdf = part.type === "pdf";
  const data = isPdf ? part.data : Buffer.from(part.text).toString("base64");
  return {
    filename: part.name,
    file_data: dataUrl(isPdf ? "application/pdf" : "text/plain", data),
  };
}
