/** The two shapes of an answer, and what a stream says when it cannot go on. */
import { expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Engine } from "../engine/engine.ts";
import { decodeChoices, type Piece } from "../generation/choices.ts";
import { type AnswerHead, toCompletion, toFrames } from "./answer.ts";

const head: AnswerHead = {
  id: "chatcmpl-1",
  created: 5,
  model: 'a"b',
  fingerprint: "f",
  promptTokens: 3,
  tokenizer: { bytesOf: () => new Uint8Array() },
};

async function* pieces(list: Piece[], error?: Error): AsyncGenerator<Piece, void, void> {
  yield* list;
  if (error) throw error;
}

async function frames(source: AsyncIterable<Piece>, includeUsage = false): Promise<string[]> {
  const all: string[] = [];
  for await (const frame of toFrames(head, source, { includeUsage })) all.push(frame);
  return all;
}

const data = (text: string) =>
  text
    .split("\n\n")
    .filter((frame) => frame !== "")
    .map((frame) => frame.replace("data: ", ""));

test("a failure in the middle goes out as the last frame, and the stream is not called done", async () => {
  const error = new HubError("upstream_unavailable", "The engine stopped.");
  const sent = await frames(pieces([{ choice: 0, text: "Hi", tokens: [7] }], error));
  const last = JSON.parse(data(sent.join("")).at(-1) ?? "");
  expect(last).toEqual({
    error: {
      message: "The engine stopped.",
      type: "service_unavailable_error",
      param: null,
      code: "upstream_unavailable",
    },
  });
  expect(sent.join("")).not.toContain("[DONE]");
});

test("our own failure tells the client nothing of itself", async () => {
  const sent = await frames(pieces([], new Error("secret detail")));
  expect(sent.join("")).not.toContain("secret");
  expect(JSON.parse(data(sent.join("")).at(-1) ?? "").error.code).toBe("internal_error");
});

test("every frame is one valid chunk, whatever text and model are called", async () => {
  const text = 'line\n"quoted" \u2028 🦜';
  const sent = await frames(
    pieces([
      { choice: 0, text, tokens: [7, 7] },
      { choice: 0, text: "", tokens: [7], finish: "stop" },
    ]),
    true,
  );
  const chunks = data(sent.join(""))
    .slice(0, -1)
    .map((one) => JSON.parse(one));
  expect(chunks.map(({ choices }) => choices[0]?.delta)).toEqual([
    { role: "assistant", content: "", refusal: null },
    { content: text },
    {},
    undefined,
  ]);
  expect(chunks.every(({ model }) => model === 'a"b')).toBe(true);
  expect(chunks.map(({ usage }) => usage)).toEqual([
    null,
    null,
    null,
    {
      prompt_tokens: 3,
      completion_tokens: 3,
      total_tokens: 6,
      prompt_tokens_details: { cached_tokens: 0 },
    },
  ]);
});

test("a token that completes no text sends no frame", async () => {
  const sent = await frames(
    pieces([
      { choice: 0, text: "a", tokens: [7] },
      { choice: 0, text: "", tokens: [7] },
      { choice: 0, text: "b", tokens: [7], finish: "length" },
    ]),
  );
  expect(sent).toHaveLength(3);
});

test("choices keep their own text and end", async () => {
  const answer = await toCompletion(
    head,
    pieces([
      { choice: 1, text: "b", tokens: [7] },
      { choice: 0, text: "a", tokens: [7], finish: "stop" },
      { choice: 1, text: "c", tokens: [7], finish: "length" },
    ]),
    2,
  );
  expect(
    answer.choices.map(({ message, finish_reason }) => [message.content, finish_reason]),
  ).toEqual([
    ["a", "stop"],
    ["bc", "length"],
  ]);
  expect(answer.usage.completion_tokens).toBe(3);
});

const told: Piece[] = [
  { choice: 0, text: "a", tokens: [7], logprobs: [{ token: 7, logprob: -1, top: [] }] },
  { choice: 0, text: "", tokens: [8, 9], logprobs: [{ token: 8, logprob: -2, top: [] }] },
  { choice: 0, text: "", tokens: [4] },
  { choice: 0, text: "", tokens: [2], finish: "stop", stopReason: "x" },
];
const telling: AnswerHead = { ...head, promptTokenIds: [1, 5, 6] };

test("tokens are told by their ids and with what ended them, where that is asked for", async () => {
  const answer = await toCompletion(telling, pieces(told), 1);
  expect(answer).toMatchObject({
    choices: [{ token_ids: [7, 8, 9, 4, 2], stop_reason: "x" }],
    prompt_token_ids: [1, 5, 6],
  });
  expect(answer.choices[0]?.logprobs?.content.map(({ logprob }) => logprob)).toEqual([-1, -2]);
  const plain = await toCompletion(head, pieces(told.slice(0, 1)), 1);
  expect(plain.choices[0]?.stop_reason).toBe(null);
  expect(JSON.stringify(plain)).not.toContain("token_ids");
});

test("a stream tells each token's id once, the prompt's with the first chunk", async () => {
  const all: string[] = [];
  for await (const frame of toFrames(telling, pieces(told), { includeUsage: true }))
    all.push(frame);
  const chunks = data(all.join(""))
    .slice(0, -1)
    .map((one) => JSON.parse(one));
  expect(chunks.map(({ prompt_token_ids }) => prompt_token_ids)).toEqual([
    [1, 5, 6],
    ...[undefined, undefined, undefined, undefined],
  ]);
  expect(chunks.map(({ choices }) => choices[0]?.token_ids)).toEqual([
    ...[undefined, [7], [8, 9], [4, 2], undefined],
  ]);
  expect(chunks.map(({ choices }) => choices[0]?.stop_reason)).toEqual([
    ...[undefined, undefined, undefined, "x", undefined],
  ]);
});

test("of a prompt with several choices is cached what none of them had to compute", async () => {
  const { usage } = await toCompletion(
    head,
    pieces([
      { choice: 1, text: "b", tokens: [7], cachedTokens: 2 },
      { choice: 0, text: "a", tokens: [7], cachedTokens: 1 },
      { choice: 0, text: "", tokens: [7], finish: "stop" },
    ]),
    2,
  );
  expect(usage.prompt_tokens_details).toEqual({ cached_tokens: 1 });
});

test("when one of several choices fails, the others are cancelled", async () => {
  const cancelled: number[] = [];
  async function* generate(stream: number, signal: AbortSignal | undefined) {
    if (stream === 1) throw new HubError("internal_error", "no luck");
    try {
      yield { tokens: [1] };
      if (signal?.aborted) return;
      await new Promise((_, reject) => signal?.addEventListener("abort", reject));
    } finally {
      cancelled.push(stream);
    }
  }
  const engine: Pick<Engine, "generateEach"> = {
    generateEach: ({ signal }, choices) =>
      Array.from({ length: choices }, (_, stream) => generate(stream, signal)),
  };
  const all = decodeChoices({
    engine,
    tokenizer: { decode: (ids) => "x".repeat(ids.length) },
    request: {
      prompt: [1],
      maxTokens: 5,
      sampling: { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 1, stream: 0 },
      stopIds: [],
      tenant: "",
    },
    text: { stop: [], includeStop: false, skipSpecialTokens: true },
    choices: 3,
    signal: new AbortController().signal,
  });
  await expect(toCompletion(head, all, 3)).rejects.toThrow("no luck");
  await new Promise((resolve) => setImmediate(resolve));
  expect(cancelled.sort()).toEqual([0, 2]);
});
