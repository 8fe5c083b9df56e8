/** What a schema costs by token: answers that must be JSON of a schema, against free ones of the same length. */
import type { AdapterServer } from "../../../../adapter-server/server.ts";
import { SseParser } from "../../../../sdk/protocol/sse.ts";
import { resultOf } from "../../engine/result.ts";
import { takeTurns } from "../../engine/rounds.ts";
import { baseId, operatorKey } from "../setting.ts";
import type { Lane } from "./table.ts";

const newTokens = 96;
/** At most 5 % slower by token. */
const least = 0.95;
const batches = [1, 8];

export const structured: Lane = async function* (setting) {
  const server = await setting.open();
  try {
    const check = await post(server, { ...fieldsOf(true), max_tokens: 4 });
    if (check.status !== 200) {
      setting.tell(`structured output is not available: ${await check.text()}`);
      return;
    }
    await check.arrayBuffer();
    for (const sequences of batches) {
      const figures = await takeTurns(
        [true, false].map((isStructured) => ({
          name: isStructured ? ("structured" as const) : ("free" as const),
          measure: (round: number) => {
            setting.tell(`${sequences} at a time, ${isStructured ? "structured" : "free"}`);
            return decodeRate(server, sequences, isStructured, round);
          },
        })),
        setting.full(7, 1),
      );
      yield resultOf({
        name: `structured against free output, ${sequences} at a time`,
        unit: "tokens/s",
        ours: figures.structured,
        peer: figures.free,
        target: least,
        notes: [
          `${newTokens} tokens, while all streams are under way: from the last of their first tokens to the first of their last; strict JSON schema`,
        ],
      });
    }
  } finally {
    await server.close();
  }
};

async function decodeRate(
  server: AdapterServer,
  sequences: number,
  isStructured: boolean,
  round: number,
): Promise<number> {
  const streams = await Promise.all(
    Array.from({ length: sequences }, (_, index) =>
      stream(server, isStructured, `${round + 1}.${index}`),
    ),
  );
  // While somebody's prompt is computed, others' tokens take longer, with a schema or without.
  const from = Math.max(...streams.map(({ arrivals }) => arrivals[0] ?? Number.NaN));
  const to = Math.min(...streams.map(({ arrivals }) => arrivals.at(-1) ?? Number.NaN));
  let tokens = 0;
  for (const { arrivals, tokens: said } of streams) {
    const within = arrivals.filter((at) => at > from && at <= to).length;
    tokens += (said * within) / arrivals.length;
  }
  return (tokens * 1000) / (to - from);
}

/** When a stream's pieces of text came, each of a token but where several make one character, and how many tokens it had. */
async function stream(server: AdapterServer, isStructured: boolean, seed: string) {
  const response = await post(server, {
    ...fieldsOf(isStructured),
    messages: [{ role: "user", content: `List ${seed} things that lie on a desk, with details.` }],
    stream: true,
    stream_options: { include_usage: true },
  });
  if (!response.body) throw new Error("an answer without a body");
  const parser = new SseParser();
  const arrivals: number[] = [];
  let tokens = 0;
  for await (const bytes of response.body) {
    for (const { data } of parser.push(bytes)) {
      if (data === "[DONE]") continue;
      const { choices, usage, error } = JSON.parse(data);
      if (error) throw new Error(error.message);
      if (choices[0]?.delta.content) arrivals.push(performance.now());
      if (usage) tokens = usage.completion_tokens;
    }
  }
  return { arrivals, tokens };
}

/** A schema that a small model can go on with for as long as it is asked to. */
function fieldsOf(isStructured: boolean) {
  const item = {
    type: "object",
    properties: {
      name: { type: "string" },
      kind: { enum: ["tool", "paper", "food", "other"] },
      weight: { type: "number" },
      tags: { type: "array", items: { type: "string" } },
    },
    required: ["name", "kind", "weight", "tags"],
    additionalProperties: false,
  };
  const schema = {
    type: "object",
    properties: { items: { type: "array", items: item, minItems: 50 } },
    required: ["items"],
    additionalProperties: false,
  };
  return {
    model: baseId,
    messages: [{ role: "user", content: "List things." }],
    max_tokens: newTokens,
    temperature: 0,
    ignore_eos: !isStructured,
    ...(isStructured && {
      response_format: {
        type: "json_schema",
        json_schema: { name: "things", strict: true, schema },
      },
    }),
  };
}

async function post({ app }: AdapterServer, body: object): Promise<Response> {
  const headers = { authorization: `Bearer ${operatorKey}` };
  const url = "http://localhost/v1/chat/completions";
  return app.fetch(new Request(url, { method: "POST", headers, body: JSON.stringify(body) }));
}
