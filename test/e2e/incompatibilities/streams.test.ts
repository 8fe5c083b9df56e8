/** Incompatibilities 6 to 11, 21, 27, 29 to 32, 38, 43 and 48: what streams say, when, and how they end. */
import { expect, test } from "vitest";
import { call, eventually } from "../../support/api.ts";
import { type Case, clients, messages, seeError, seeStream, testCases } from "./cases.ts";
import {
  begin,
  chunk,
  done,
  frames,
  json,
  openEvents,
  speak,
  toFrame,
  usage,
  type WireAnswer,
} from "./wire.ts";

const mended = ["compatible"] as const;
const passedAndMended = ["openai", "compatible"] as const;
const text = (content: string) => chunk({ content });
const end = chunk({}, "stop");
const said = { content: "Hello there", finish: "stop" };

/** Sends what it has before the socket dies. */
const cutAfter =
  (...list: object[]): WireAnswer =>
  (response) => {
    openEvents(response);
    for (const frame of list) response.write(toFrame(frame));
    setTimeout(() => response.socket?.destroy(), 20);
  };

const cases: Case[] = [
  {
    name: "6.1: a stream that ends without a reason to finish gets one",
    upstreams: mended,
    upstream: frames(begin, text("Hello"), text(" there"), done),
    see: async (client, model) => (await seeStream(client, model)).final,
    expected: said,
  },
  {
    name: "6.2: a stream whose connection dies throws at the client",
    upstreams: passedAndMended,
    upstream: cutAfter(begin, text("Hello")),
    see: (client, model) => seeError(() => seeStream(client, model)),
    expected: { class: "APIError", code: "upstream_error", type: "server_error" },
  },
  {
    name: "7: usage that was not asked for is not sent",
    upstreams: passedAndMended,
    upstream: speak("Hello", " there"),
    see: (client, model) => seeStream(client, model),
    expected: { without_choices: 0, usages: 0, final: said },
  },
  {
    name: "8: usage that was asked for comes once and last, in a chunk with an empty list of choices",
    upstreams: passedAndMended,
    upstream: speak("Hello", " there"),
    see: (client, model) => seeStream(client, model, { stream_options: { include_usage: true } }),
    expected: { without_choices: 1, usages: 1, final: { ...said, tokens: 12 } },
  },
  {
    name: "9: chunks without choices in the middle of an answer are left out",
    upstreams: mended,
    upstream: frames(
      begin,
      text("Hello"),
      { id: "chatcmpl-wire", object: "chat.completion.chunk", model: "wire", usage },
      { ...chunk({}), choices: [] },
      { ...chunk({}), choices: null },
      text(" there"),
      end,
      done,
    ),
    see: (client, model) => seeStream(client, model),
    expected: { without_choices: 0, final: said },
  },
  {
    name: "10: Azure's filter results, with an empty id or without a delta, are no part of the answer",
    upstreams: ["azure"],
    upstream: frames(
      { id: "", object: "", created: 0, model: "", choices: [], prompt_filter_results: [{}] },
      begin,
      text("Hello"),
      {
        id: "",
        object: "",
        created: 0,
        model: "",
        choices: [{ index: 0, finish_reason: null, content_filter_results: {} }],
      },
      text(" there"),
      end,
      done,
    ),
    see: (client, model) => seeStream(client, model),
    expected: { ids: 1, without_choices: 0, final: said },
  },
  {
    name: "11: one id and the role once, whatever an upstream changes and repeats",
    upstreams: ["compatible", "ollama"],
    upstream: frames(
      chunk({ role: "assistant", content: "Hello" }, null, { id: "1" }),
      chunk({ role: "assistant", content: " there" }, null, { id: "2" }),
      chunk({ role: "assistant", content: "" }, "stop", { id: "3" }),
      done,
    ),
    see: (client, model) => seeStream(client, model),
    expected: { ids: 1, roles: 1, final: said },
  },
  {
    name: "21: an upstream's error in the middle of a stream is thrown with message and code",
    upstreams: passedAndMended,
    upstream: frames(begin, text("Hello"), {
      error: { message: "the card melted", type: "server_error", param: null, code: null },
    }),
    see: (client, model) => seeError(() => seeStream(client, model)),
    expected: { class: "APIError", code: "upstream_error", type: "server_error" },
  },
  {
    name: "27: signs of life while an upstream is silent disturb no client",
    upstreams: passedAndMended,
    upstream: async (response) => {
      openEvents(response);
      response.write(toFrame(begin) + toFrame(text("Hello")));
      // Several of them fit into the silence; how many does not matter.
      await new Promise((resolve) => setTimeout(resolve, 300));
      response.end([text(" there"), end, done].map(toFrame).join(""));
    },
    see: async (client, model) => (await seeStream(client, model)).final,
    expected: said,
  },
  {
    name: "32.1: a character that arrives in several packets is whole",
    upstreams: passedAndMended,
    upstream: async (response) => {
      openEvents(response);
      const bytes = Buffer.from([begin, text("Hi 👋🏽 ü"), end, done].map(toFrame).join(""));
      for (const byte of bytes) {
        response.write(Buffer.of(byte));
        await new Promise(setImmediate);
      }
      response.end();
    },
    see: async (client, model) => (await seeStream(client, model)).final.content,
    expected: "Hi 👋🏽 ü",
  },
  {
    name: "32.2: a character that an upstream splits over two deltas is whole",
    upstreams: mended,
    upstream: frames(begin, text("Hi \ud83d"), text("\udc4b"), text(" \ud83d\udc4b"), end, done),
    see: async (client, model) => {
      const stream = await client.chat.completions.create({ model, messages, stream: true });
      const deltas: string[] = [];
      for await (const { choices } of stream) deltas.push(choices[0]?.delta.content ?? "");
      const halves = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
      return { text: deltas.join(""), broken: deltas.filter((one) => halves.test(one)).length };
    },
    expected: { text: "Hi 👋 👋", broken: 0 },
  },
  {
    name: "38: each of several choices has its role, its text and its end",
    upstreams: passedAndMended,
    upstream: frames(
      ...[0, 1, 2].map((index) => choice(index, { role: "assistant", content: "" })),
      ...[2, 0, 1].map((index) => choice(index, { content: `say ${index}` })),
      ...[1, 2, 0].map((index) => choice(index, {}, "stop")),
      done,
    ),
    see: async (client, model) => {
      const { choices } = await client.chat.completions
        .stream({ model, messages, n: 3 })
        .finalChatCompletion();
      return choices.map(({ index, message, finish_reason }) => [
        index,
        message.role,
        message.content,
        finish_reason,
      ]);
    },
    expected: [0, 1, 2].map((index) => [index, "assistant", `say ${index}`, "stop"]),
  },
  {
    name: "48: a request that is refused before its stream begins has the refusal's status",
    upstreams: passedAndMended,
    upstream: json({ error: { message: "no such voice", type: "invalid_request_error" } }, 400),
    see: (client, model) =>
      seeError(() => client.chat.completions.create({ model, messages, stream: true })),
    expected: { class: "BadRequestError", status: 400, type: "invalid_request_error" },
  },
];

function choice(index: number, delta: object, finish: string | null = null): object {
  return { ...chunk({}), choices: [{ index, delta, logprobs: null, finish_reason: finish }] };
}

/** Cases that look at bytes and times; their upstreams wait for what the test has seen. */
let saw: (words: number) => void = () => {};
let left: () => void = () => {};
const wireCases: Case[] = [
  {
    name: "29: [DONE] comes once and last",
    upstreams: passedAndMended,
    upstream: cases.find(({ name }) => name.startsWith("38:"))?.upstream ?? frames(),
    expected: {},
  },
  {
    name: "30: every delta goes out before the next one comes",
    upstreams: passedAndMended,
    upstream: async (response) => {
      openEvents(response);
      response.write(toFrame(begin));
      for (let word = 1; word <= 10; word++) {
        const isSeen = new Promise<void>((resolve) => {
          saw = (words) => words >= word && resolve();
        });
        response.write(toFrame(text(`${word} `)));
        await isSeen;
      }
      response.end(toFrame(end) + done);
    },
    expected: {},
  },
  {
    name: "31: a client that leaves ends the upstream's work, which is recorded",
    upstreams: passedAndMended,
    upstream: (response) => {
      openEvents(response);
      response.write(toFrame(begin) + toFrame(text("one two three")));
      response.on("close", () => left());
    },
    expected: {},
  },
];

testCases([...cases, ...wireCases], {
  settings: { gateway: { keepAliveMs: 40 } },
  more(stage) {
    const stream = (model: string) =>
      fetch(`${stage().url}/chat/completions`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${stage().server.apiKey}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ model, messages, stream: true, n: model.startsWith("29") ? 3 : 1 }),
      });

    test.each(passedAndMended)("29: [DONE] comes once and last (%s)", async (type) => {
      const body = await (await stream(`29/${type}`)).text();
      expect(body.split("[DONE]")).toHaveLength(2);
      expect(body.endsWith("data: [DONE]\n\n")).toBe(true);
    });

    test.each(passedAndMended)(
      "30: every delta goes out before the next comes (%s)",
      async (type) => {
        const response = await stream(`30/${type}`);
        let body = "";
        for await (const bytes of response.body ?? []) {
          body += Buffer.from(bytes).toString();
          saw(body.split('"content":"').length - 2);
        }
        expect(body).toContain('"content":"10 "');
      },
    );

    test.each(passedAndMended)(
      "27: silence is filled with comments, never with ids (%s)",
      async (type) => {
        const body = await (await stream(`27/${type}`)).text();
        expect(body).toMatch(/^:/m);
        expect(body).not.toMatch(/^(id|retry):/m);
      },
    );

    for (const { version, OpenAI } of clients) {
      test.each(passedAndMended)(
        `31: openai ${version} that leaves ends the upstream's work, which is recorded (%s)`,
        async (type) => {
          const { server, url } = stage();
          const upstreamClosed = new Promise<void>((resolve) => {
            left = resolve;
          });
          const client = new OpenAI({ baseURL: url, apiKey: server.apiKey, maxRetries: 0 });
          const { data, request_id } = await client.chat.completions
            .create({ model: `31/${type}`, messages, stream: true })
            .withResponse();
          for await (const { choices } of data) if (choices[0]?.delta.content) break;
          await upstreamClosed;
          const record = await eventually("the request's record", async () => {
            const { status, body } = await call(
              server.url,
              server.adminKey,
              "GET",
              `/api/requests/${request_id}`,
            );
            return status === 200 ? (body as Record<string, unknown>) : undefined;
          });
          expect(record).toMatchObject({ outcome: "client_gone", usage_estimated: true });
          expect((record.tokens as { output: number }).output).toBeGreaterThan(0);
        },
      );
    }
  },
});
