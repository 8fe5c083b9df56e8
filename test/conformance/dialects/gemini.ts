/** Google's `generateContent`, by its own SDK. */
import assert from "node:assert/strict";
import {
  ApiError,
  type Content,
  FunctionCallingConfigMode,
  type GenerateContentConfig,
  type GenerateContentResponse,
  GoogleGenAI,
  type Part as GooglePart,
} from "@google/genai";
import type { Client, Dialect } from "../driver.ts";
import type { Ask, Heard, Part, Raw, Turn } from "../neutral.ts";
import { eventsIn, keysWithin } from "./raw.ts";

export const gemini: Dialect = {
  name: "generateContent",
  // Its SDK sends no field that it does not know, and it has no words for a refusal.
  lacks: new Set(["keepsPrompt", "unknown", "refusal", "freeText"]),
  ends: {
    stop: "STOP",
    length: "MAX_TOKENS",
    stop_sequence: "STOP",
    content_filter: "SAFETY",
    calls: "STOP",
  },
  statuses: { failed: 502, overloaded: 503 },
  connect({ url, apiKey }): Client {
    const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url } });
    return {
      async ask(ask, { model, stream }) {
        const asked = { model, contents: ask.turns.map(writeTurn), config: writeConfig(ask) };
        if (!stream) return read([await client.models.generateContent(asked)]);
        const chunks: GenerateContentResponse[] = [];
        for await (const chunk of await client.models.generateContentStream(asked)) {
          chunks.push(chunk);
        }
        return read(chunks);
      },
      refusal(thrown) {
        // A stream that breaks off is told by an error without a class of its own.
        assert.ok(thrown instanceof Error, `no error of Google's SDK: ${thrown}`);
        const status = thrown instanceof ApiError ? thrown.status : undefined;
        return { status, message: thrown.message };
      },
      guard,
    };
  },
};

function writeConfig(ask: Ask): GenerateContentConfig {
  const { system, tools, toolChoice, schema, stop, outputTokensMax, temperature, logprobs } = ask;
  return {
    ...(system !== undefined && { systemInstruction: system }),
    ...(tools && {
      tools: [
        {
          functionDeclarations: tools.map(({ parameters, ...tool }) => ({
            ...tool,
            ...(parameters && { parametersJsonSchema: parameters }),
          })),
        },
      ],
    }),
    ...(toolChoice && { toolConfig: { functionCallingConfig: writeChoice(toolChoice) } }),
    ...(schema && { responseMimeType: "application/json", responseJsonSchema: schema }),
    ...(stop && { stopSequences: stop }),
    ...(outputTokensMax && { maxOutputTokens: outputTokensMax }),
    ...(temperature !== undefined && { temperature }),
    ...(logprobs !== undefined && { responseLogprobs: true, ...(logprobs && { logprobs }) }),
    ...(ask.reasoning && { thinkingConfig: { thinkingBudget: 1024, includeThoughts: true } }),
  };
}

function writeChoice(choice: NonNullable<Ask["toolChoice"]>) {
  if (choice === "none") return { mode: FunctionCallingConfigMode.NONE };
  const named = typeof choice === "string" ? {} : { allowedFunctionNames: [choice.name] };
  return { mode: FunctionCallingConfigMode.ANY, ...named };
}

function writeTurn(turn: Turn): Content {
  switch (turn.role) {
    case "user":
      return { role: "user", parts: turn.parts.map(writePart) };
    case "assistant":
      return { role: "model", parts: [{ text: turn.text }] };
    case "heard":
      return turn.heard.said as Content;
    case "results":
      return {
        role: "user",
        parts: turn.results.map(({ id, name, text, failed }) => ({
          functionResponse: { id, name, response: failed ? { error: text } : { output: text } },
        })),
      };
    default:
      return turn satisfies never;
  }
}

function writePart(part: Part): GooglePart {
  switch (part.type) {
    case "text":
      return { text: part.text };
    case "image":
      return { inlineData: { mimeType: "image/png", data: part.data } };
    case "image_url":
      return { fileData: { mimeType: "image/png", fileUri: part.url } };
    case "pdf":
      return { inlineData: { mimeType: "application/pdf", data: part.data } };
    case "text_file": {
      const data = Buffer.from(part.text).toString("base64");
      return { inlineData: { mimeType: "text/plain", data } };
    }
    default:
      return part satisfies never;
  }
}

/** Chunks are read as they come; what is said back is all their parts. */
function read(chunks: GenerateContentResponse[]): Heard {
  const candidates = chunks.flatMap((chunk) => chunk.candidates ?? []);
  const parts = candidates.flatMap(({ content }) => content?.parts ?? []);
  const last = chunks.at(-1);
  const usage = chunks.findLast((chunk) => chunk.usageMetadata)?.usageMetadata;
  const blocked = last?.promptFeedback?.blockReason && "SAFETY";
  return {
    id: last?.responseId,
    text: parts.map(({ text, thought }) => (thought ? "" : (text ?? ""))).join(""),
    reasoning: parts.map(({ text, thought }) => (thought ? (text ?? "") : "")).join(""),
    calls: parts.flatMap(({ functionCall }) =>
      functionCall
        ? [{ id: functionCall.id ?? "", name: functionCall.name ?? "", input: functionCall.args }]
        : [],
    ),
    finish: String(candidates.findLast((one) => one.finishReason)?.finishReason ?? blocked),
    refusal: "",
    cited: candidates.flatMap(({ groundingMetadata }) =>
      (groundingMetadata?.groundingChunks ?? []).map(({ web }) => web?.uri ?? ""),
    ),
    logprobs: candidates.flatMap(({ logprobsResult }) =>
      (logprobsResult?.chosenCandidates ?? []).map((one) => one.logProbability ?? Number.NaN),
    ),
    usage: {
      input: usage?.promptTokenCount ?? Number.NaN,
      cacheRead: usage?.cachedContentTokenCount ?? 0,
      output: (usage?.candidatesTokenCount ?? 0) + (usage?.thoughtsTokenCount ?? 0),
      reasoning: usage?.thoughtsTokenCount,
    },
    said: { role: "model", parts } satisfies Content,
  };
}

function guard({ text, type }: Raw, { stream }: { stream: boolean }): void {
  const answers = stream ? eventsIn(text).map(({ data }) => JSON.parse(data)) : [JSON.parse(text)];
  assert.match(type, stream ? /^text\/event-stream/ : /^application\/json/);
  for (const answer of answers) keysWithin(answer, answerKeys);
}

const answerKeys = [
  "candidates",
  "promptFeedback",
  "usageMetadata",
  "modelVersion",
  "responseId",
  "error",
];
