/** OpenAI's older completions, by its own SDK: one text that is answered. */
import assert from "node:assert/strict";
import type OpenAI from "openai";
import type { Client, Dialect } from "../driver.ts";
import type { Ask, Heard, Raw } from "../neutral.ts";
import { openClient, refusalOf, statuses } from "./openai.ts";
import { eventsIn, keysWithin } from "./raw.ts";

export const openAiCompletions: Dialect = {
  name: "completions",
  lacks: new Set(["conversation", "logprobs", "refusal"]),
  ends: {
    stop: "stop",
    length: "length",
    stop_sequence: "stop",
    content_filter: "content_filter",
    calls: "stop",
  },
  statuses,
  idPrefix: "cmpl-",
  connect(address): Client {
    const client = openClient(address);
    return {
      async ask(ask, { model, stream }) {
        const body = writeBody(ask, model);
        if (!stream) return read([await client.completions.create({ ...body, stream })]);
        const chunks: OpenAI.Completion[] = [];
        const asked = { ...body, stream, stream_options: { include_usage: true } };
        for await (const chunk of await client.completions.create(asked)) chunks.push(chunk);
        return read(chunks);
      },
      refusal: (thrown) => refusalOf(thrown),
      guard,
    };
  },
};

function writeBody(ask: Ask, model: string) {
  const [turn] = ask.turns;
  const [part] = turn?.role === "user" ? turn.parts : [];
  assert.ok(part?.type === "text");
  return {
    model,
    prompt: part.text,
    max_tokens: ask.outputTokensMax ?? 512,
    ...(ask.stop && { stop: ask.stop }),
    ...(ask.temperature !== undefined && { temperature: ask.temperature }),
    ...(ask.unknown && { field_of_nobody: 1 }),
  };
}

function read(chunks: OpenAI.Completion[]): Heard {
  const choices = chunks.flatMap((chunk) => chunk.choices);
  const usage = chunks.at(-1)?.usage;
  return {
    id: chunks[0]?.id,
    text: choices.map(({ text }) => text).join(""),
    reasoning: "",
    calls: [],
    finish: String(choices.at(-1)?.finish_reason),
    refusal: "",
    cited: [],
    logprobs: [],
    usage: {
      input: usage?.prompt_tokens ?? Number.NaN,
      cacheRead: usage?.prompt_tokens_details?.cached_tokens ?? 0,
      output: usage?.completion_tokens ?? Number.NaN,
      reasoning: usage?.completion_tokens_details?.reasoning_tokens,
    },
    said: undefined,
  };
}

function guard({ text }: Raw, { stream }: { stream: boolean }): void {
  const events = stream ? eventsIn(text).map(({ data }) => data) : [text];
  if (stream) assert.equal(events.pop(), "[DONE]");
  for (const event of events) {
    const chunk = JSON.parse(event);
    assert.equal(chunk.object, "text_completion");
    keysWithin(chunk, keys);
  }
}

const keys = ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"];
