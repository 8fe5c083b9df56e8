/** Requests of more parts than a call's arguments may be: every dialect reads them, every provider's body is written. */
import { expect, test } from "vitest";
import { readCanonicalMessages } from "../dialects/anthropic-messages/canonical.ts";
import { readCanonicalConverse } from "../dialects/bedrock-converse/canonical.ts";
import { converseBody } from "../dialects/bedrock-converse/schema.ts";
import { readCanonicalGemini } from "../dialects/gemini/canonical.ts";
import { generateContentBody } from "../dialects/gemini/schema.ts";
import { readCanonicalChat } from "../dialects/openai-chat/canonical.ts";
import { readCanonicalResponses } from "../dialects/openai-responses/canonical.ts";
import { writeMessagesBody } from "../providers/anthropic/body.ts";
import { writeConverseBody } from "../providers/bedrock/body.ts";
import { writeGeminiBody } from "../providers/gemini/body.ts";
import { writeChatBody } from "../providers/openai/body.ts";
import { readChatEvents } from "../providers/openai/reader.ts";
import { writeResponsesBody } from "../providers/openai-responses/body.ts";
import { eventsOf, gatherAnswer } from "./answer.ts";
import type { CanonicalRequest } from "./request.ts";

const many = 150_000;
const texts = Array.from({ length: many }, () => ({ type: "text", text: "✓" }));
const bare = texts.map(({ text }) => ({ text }));
const model = "m";

const dialects: Record<string, () => CanonicalRequest> = {
  "openai-chat": () =>
    readCanonicalChat({
      model,
      messages: [
        { role: "system", content: texts },
        { role: "user", content: texts },
        { role: "user", content: texts },
      ],
    }),
  "openai-responses": () => {
    const content = texts.map(({ text }) => ({ type: "input_text", text }));
    return readCanonicalResponses({
      model,
      input: [
        { role: "system", content },
        { role: "user", content },
        { role: "user", content },
      ],
    });
  },
  "anthropic-messages": () =>
    readCanonicalMessages({
      model,
      max_tokens: 9,
      system: texts,
      messages: [
        { role: "user", content: texts },
        { role: "user", content: texts },
      ],
    }),
  gemini: () => {
    const contents = [
      { role: "user", parts: bare },
      { role: "user", parts: bare },
    ];
    const body = generateContentBody.parse({ systemInstruction: { parts: bare }, contents });
    return readCanonicalGemini(body, { model, stream: false });
  },
  "bedrock-converse": () => {
    const messages = [
      { role: "user", content: bare },
      { role: "user", content: bare },
    ];
    const body = { system: bare, messages };
    return readCanonicalConverse(converseBody.parse(body), { body, model, stream: false });
  },
};

const formats: Record<string, (request: CanonicalRequest) => { body: unknown }> = {
  "openai-chat": (request) => writeChatBody(request, { samplesMore: true, reasons: true }),
  "openai-responses": writeResponsesBody,
  "anthropic-messages": writeMessagesBody,
  gemini: writeGeminiBody,
  "bedrock-converse": writeConverseBody,
};

test.each(Object.entries(dialects))("%s reads them all", (_, read) => {
  const { instructions, turns } = read();
  const said = turns.flatMap((turn) => ("parts" in turn ? [turn.parts.length] : []));
  expect([instructions.length, ...said]).toEqual([many, many, many]);
});

test.each(Object.entries(formats))("%s writes them all", (_, write) => {
  const request = dialects["openai-chat"]?.() as CanonicalRequest;
  const written = JSON.stringify(write(request).body);
  expect(written.match(/✓/g)).toHaveLength(3 * many);
});

test("a provider's answer of as many parts and calls is read", () => {
  const calls = texts.map((_, index) => ({
    id: `call_${index}`,
    type: "function",
    function: { name: "f", arguments: "{}" },
  }));
  const message = { role: "assistant", content: texts, tool_calls: calls };
  const events = readChatEvents({ choices: [{ index: 0, message, finish_reason: "stop" }] });
  const { choices } = gatherAnswer(events);
  expect(choices[0]?.parts).toHaveLength(1 + many);
  expect(eventsOf({ id: undefined, model, choices, usage: undefined }).length).toBeGreaterThan(
    many,
  );
});
