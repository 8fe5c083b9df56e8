/** Incompatibilities 14 to 19, 33, 34, 37, 41, 44 and 45: what requests may hold, and what answers have to. */
import type OpenAI from "openai";
import { expect, test } from "vitest";
import { type Case, messages, seeError, seeStream, seeWhole, testCases } from "./cases.ts";
import { begin, chunk, done, either, frames, json, speak, whole } from "./wire.ts";

const everyKind = ["openai", "compatible", "mistral"] as const;
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const strict = {
  type: "json_schema" as const,
  json_schema: { name: "place", strict: true, schema: { ...city, additionalProperties: false } },
};
const part = (text: string) => [{ type: "text" as const, text }];
const token = { token: "Hi", logprob: -0.5, bytes: [72, 105] };
const told = { content: [{ ...token, top_logprobs: [token] }] };
const seeText = async (client: OpenAI, model: string, more: Parameters<typeof seeStream>[2]) => [
  (await seeWhole(client, model, more)).content,
  (await seeStream(client, model, more)).final.content,
];

/** Every optional field of a chat. */
const nulls = Object.fromEntries(
  [
    ..."frequency_penalty logit_bias logprobs max_completion_tokens max_tokens metadata modalities n".split(
      " ",
    ),
    ..."parallel_tool_calls prediction presence_penalty reasoning_effort response_format seed".split(
      " ",
    ),
    ..."service_tier stop store stream_options temperature tool_choice tools top_logprobs top_p".split(
      " ",
    ),
    ..."user verbosity web_search_options functions function_call prompt_cache_key".split(" "),
  ].map((name) => [name, null]),
);

const cases: Case[] = [
  {
    name: "14: instructions of a developer reach upstreams without that role as the system's",
    upstreams: ["mistral", "compatible"],
    upstream: speak("fine"),
    see: async (client, model) =>
      (
        await seeWhole(client, model, {
          messages: [{ role: "developer", content: "Be brief." }, ...messages],
        })
      ).content,
    expected: "fine",
    sent([request]) {
      expect(request?.body.messages[0]).toEqual({ role: "system", content: "Be brief." });
    },
  },
  {
    name: "15.1: a message that calls tools may have no content",
    upstreams: everyKind,
    upstream: speak("fine"),
    see: async (client, model) =>
      (
        await seeWhole(client, model, {
          messages: [
            ...messages,
            {
              role: "assistant",
              content: null,
              tool_calls: [
                { id: "aaaaaaaaa", type: "function", function: { name: "f", arguments: "{}" } },
              ],
            },
            { role: "tool", tool_call_id: "aaaaaaaaa", content: "21" },
          ],
        })
      ).content,
    expected: "fine",
  },
  {
    name: "15.2: a message that says nothing at all is refused by its name",
    upstreams: everyKind,
    upstream: speak("never"),
    see: (client, model) =>
      seeError(() =>
        seeWhole(client, model, { messages: [{ role: "user", content: null as never }] }),
      ),
    expected: { class: "BadRequestError", status: 400, param: "messages[0].content" },
  },
  {
    name: "16: content in parts is content for every role",
    upstreams: everyKind,
    upstream: speak("fine"),
    see: async (client, model) =>
      (
        await seeWhole(client, model, {
          messages: [
            { role: "system", content: part("Be brief.") },
            { role: "user", content: part("Hello") },
            {
              role: "assistant",
              content: part("Let me see."),
              tool_calls: [
                { id: "aaaaaaaaa", type: "function", function: { name: "f", arguments: "{}" } },
              ],
            },
            { role: "tool", tool_call_id: "aaaaaaaaa", content: part("21") },
          ],
        })
      ).content,
    expected: "fine",
  },
  {
    name: "17: an answer in parts is one text, with what was thought beside it",
    upstreams: ["mistral"],
    upstream: (() => {
      const content = [
        { type: "thinking", thinking: [{ type: "text", text: "hm" }] },
        ...part("Hello"),
        ...part(" there"),
      ];
      return either(frames(begin, chunk({ content }), chunk({}, "stop"), done), whole({ content }));
    })(),
    see: (client, model) => seeText(client, model, {}),
    expected: ["Hello there", "Hello there"],
  },
  {
    name: "18.1: max_completion_tokens is the most an upstream may say, by its own name",
    upstreams: everyKind,
    upstream: speak("fine"),
    see: async (client, model) =>
      (await seeWhole(client, model, { max_completion_tokens: 9 })).content,
    expected: "fine",
    sent([request]) {
      const { max_tokens, max_completion_tokens } = request?.body ?? {};
      expect([max_tokens, max_completion_tokens].filter((most) => most !== undefined)).toEqual([9]);
    },
  },
  {
    name: "18.2: two different bounds of the answer's length are refused",
    upstreams: everyKind,
    upstream: speak("never"),
    see: (client, model) =>
      seeError(() => seeWhole(client, model, { max_tokens: 7, max_completion_tokens: 9 })),
    expected: { class: "BadRequestError", status: 400, param: "max_tokens" },
  },
  {
    name: "19.1: a strict schema reaches the upstream whole",
    upstreams: ["openai", "compatible", "mistral"],
    upstream: speak('{"city":', '"Paris"}'),
    see: async (client, model) => {
      const { choices } = await client.chat.completions.parse({
        model,
        messages,
        response_format: strict,
      });
      return choices[0]?.message.parsed;
    },
    expected: { city: "Paris" },
    sent([request]) {
      expect(request?.body.response_format).toEqual(strict);
    },
  },
  {
    name: "19.2: where an upstream knows no schemas, that is said",
    upstreams: ["deepseek"],
    upstream: speak("never"),
    see: (client, model) => seeError(() => seeWhole(client, model, { response_format: strict })),
    expected: { class: "BadRequestError", code: "unsupported_parameter", param: "response_format" },
  },
  {
    name: "33: log-probabilities have their bytes, and what is no number is the least likely",
    upstreams: ["compatible"],
    upstream: either(
      frames(
        begin,
        `data: ${JSON.stringify(chunk({ content: "Hi" })).replace('"logprobs":null', `"logprobs":${notNumbers()}`)}\n\n`,
        chunk({}, "stop"),
        done,
      ),
      (response) => {
        const answer = JSON.stringify({
          id: "1",
          object: "chat.completion",
          model: "m",
          choices: [
            { index: 0, message: { content: "Hi" }, logprobs: null, finish_reason: "stop" },
          ],
        }).replace('"logprobs":null', `"logprobs":${notNumbers()}`);
        json(answer)(response, {} as never);
      },
    ),
    see: async (client, model) => {
      const asked = { model, messages, logprobs: true, top_logprobs: 1 };
      const { choices } = await client.chat.completions.create(asked);
      const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
      return [choices[0]?.logprobs, streamed.choices[0]?.logprobs].map((logprobs) =>
        logprobs?.content?.map(({ token, logprob, bytes, top_logprobs }) => [
          token,
          logprob,
          bytes,
          top_logprobs[0]?.logprob,
        ]),
      );
    },
    expected: [[["Hi", -0.5, [72, 105], -9999]], [["Hi", -0.5, [72, 105], -9999]]],
  },
  {
    name: "34: null is as good as absent, in every optional field",
    upstreams: everyKind,
    upstream: speak("Hello", " there"),
    see: (client, model) => seeText(client, model, nulls),
    expected: ["Hello there", "Hello there"],
    sent(requests) {
      if (!requests[0]?.body.model.endsWith("/mistral")) return;
      for (const { body } of requests) expect(Object.values(body)).not.toContain(null);
    },
  },
  {
    name: "37: what a strict upstream does not know is left out, and told",
    upstreams: ["mistral"],
    upstream: speak("fine"),
    see: async (client, model) => {
      const { data, response } = await client.chat.completions
        .create({ model, messages, store: true, metadata: { a: "b" }, user: "u" })
        .withResponse();
      const dropped = response.headers.get("x-switchyard-dropped")?.split(", ") ?? [];
      return [data.choices[0]?.message.content, dropped.toSorted()];
    },
    // `store` is honoured by the gateway itself.
    expected: ["fine", ["user"]],
    sent([request]) {
      const fields = Object.keys(request?.body ?? {});
      for (const field of ["store", "metadata", "user", "stream_options"]) {
        expect(fields).not.toContain(field);
      }
    },
  },
  {
    name: "41: what was thought has both names that clients look for",
    upstreams: ["compatible"],
    upstream: either(
      frames(begin, chunk({ reasoning: "hm" }), chunk({ content: "Hi" }), chunk({}, "stop"), done),
      whole({ content: "Hi", reasoning_content: "hm" }),
    ),
    see: async (client, model) => {
      const { choices } = await client.chat.completions.create({ model, messages });
      const streamed = await client.chat.completions.create({ model, messages, stream: true });
      const deltas: object[] = [];
      for await (const one of streamed) deltas.push(...one.choices.map(({ delta }) => delta));
      const thoughts = (said: object | undefined) =>
        ["reasoning", "reasoning_content"].map((name) => (said as Record<string, unknown>)?.[name]);
      return [
        thoughts(choices[0]?.message),
        thoughts(deltas.find((delta) => "reasoning" in delta)),
      ];
    },
    expected: [
      ["hm", "hm"],
      ["hm", "hm"],
    ],
  },
  {
    name: "44: a top_p of 0 is a value like others",
    upstreams: everyKind,
    upstream: speak("fine"),
    see: async (client, model) => (await seeWhole(client, model, { top_p: 0 })).content,
    expected: "fine",
    sent([request]) {
      expect(request?.body.top_p).toBe(0);
    },
  },
];

/** As Python writes floats that JSON does not have. */
function notNumbers(): string {
  return JSON.stringify({ ...told, refusal: null }).replace(
    /("top_logprobs":\[\{"token":"Hi","logprob":)-0.5/,
    "$1-Infinity",
  );
}

const seedCase: Case = {
  name: "45: a seed that no double holds arrives as it was written",
  upstreams: everyKind,
  upstream: speak("fine"),
  expected: {},
};

testCases([...cases, seedCase], {
  more(stage) {
    test.each(everyKind)(
      "45: a seed that no double holds arrives as it was written (%s)",
      async (type) => {
        const { url, server, wire } = stage();
        const response = await fetch(`${url}/chat/completions`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${server.apiKey}`,
            "content-type": "application/json",
          },
          body: `{"model":"45/${type}","messages":[{"role":"user","content":"Hi"}],"seed":9007199254740993}`,
        });
        expect(response.status).toBe(200);
        expect(wire.requestsOf(`45/${type}`)[0]?.text).toMatch(/seed":9007199254740993\b/);
      },
    );
  },
});
