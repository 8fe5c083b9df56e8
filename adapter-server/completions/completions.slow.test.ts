/** `/v1/completions` over the real engine and the demo model, asked by the official client too. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ChatCompletion } from "../../sdk/protocol/chat.ts";
import type { TextCompletion } from "../../sdk/protocol/completions.ts";
import { demoGoldens } from "../__fixtures__/demo-model.ts";
import {
  type DemoServer,
  demoModelId as model,
  openDemoServer,
} from "../__fixtures__/demo-server.ts";

let demo: DemoServer;
beforeAll(async () => {
  demo = await openDemoServer({
    limits: { promptsMax: 5, promptTokensMax: 400, scoredTokensMax: 7, promptScoresMax: 40_000 },
  });
  await demo.load("support-triage");
});
afterAll(() => demo?.close());

type Fields = Record<string, unknown>;
const ask = (fields: Fields) =>
  demo.ask<TextCompletion>("/v1/completions", { model, temperature: 0, max_tokens: 8, ...fields });
const refusal = (fields: Fields) => demo.refusal("/v1/completions", { model, ...fields });
const [golden, ...others] = demoGoldens("base").goldens;
const prompt = golden?.prompt_ids ?? [];
/** The reference adds up in another order. */
const digits = 2;

test("tokens are continued as the reference continues them, by base and adapter", async () => {
  for (const [name, all] of [
    [model, demoGoldens("base").goldens],
    ["support-triage", demoGoldens("support-triage").goldens],
  ] as const) {
    const clear = all.filter((one) => Math.min(...one.greedy_margin_to_second) > 0.01).slice(0, 3);
    expect(clear.length).toBeGreaterThan(0);
    for (const { prompt_ids, greedy_ids } of clear) {
      const answer = await ask({ model: name, prompt: prompt_ids, max_tokens: greedy_ids.length });
      expect(answer.choices[0]?.text).toBe(demo.tokenizer.decode(greedy_ids));
      expect(answer.usage.completion_tokens).toBe(greedy_ids.length);
    }
  }
});

test("what ended an answer is told: the request's own stop string or token, and nothing of the model's", async () => {
  const [only] = (await ask({ prompt, return_token_ids: true })).choices;
  expect(only).toMatchObject({
    stop_reason: null,
    finish_reason: "length",
    prompt_token_ids: prompt,
  });
  const tokens = only?.token_ids ?? [];
  expect(tokens).toHaveLength(8);
  expect(demo.tokenizer.decode(tokens)).toBe(only?.text);
  const third = tokens[2] ?? 0;
  const byToken = await ask({ prompt, stop_token_ids: [third], return_token_ids: true });
  expect(byToken.choices).toMatchObject([
    { stop_reason: third, token_ids: tokens.slice(0, tokens.indexOf(third) + 1) },
  ]);
  const stop = only?.text.slice(-3) ?? "";
  expect((await ask({ prompt, stop })).choices).toMatchObject([
    { stop_reason: stop, finish_reason: "stop" },
  ]);
  expect((await ask({ prompt })).choices[0]).not.toHaveProperty("token_ids");
});

test("a text is continued as its tokens are, and control tokens in it are meant", async () => {
  const text = demo.tokenizer.decode(prompt, { skipSpecialTokens: false });
  const byText = await ask({ prompt: text });
  expect(byText.usage.prompt_tokens).toBe(prompt.length);
  expect(byText.choices).toEqual((await ask({ prompt })).choices);
});

test("several prompts with several choices each are answered in order, as each alone", async () => {
  const prompts = ["My card was", "The app", "Please book a table"];
  const wish = { n: 2, seed: 4, temperature: 1, max_tokens: 6 };
  const together = await ask({ prompt: prompts, ...wish });
  expect(together.choices.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
  let tokens = 0;
  for (const [index, one] of prompts.entries()) {
    const alone = await ask({ prompt: one, ...wish });
    const texts = together.choices.slice(2 * index, 2 * index + 2).map(({ text }) => text);
    expect(texts).toEqual(alone.choices.map(({ text }) => text));
    tokens += alone.usage.prompt_tokens;
  }
  expect(together.usage.prompt_tokens).toBe(tokens);
});

test("an echoed prompt is as likely as the reference finds it, and nothing is said when nothing is wished", async () => {
  for (const one of [golden, ...others].slice(0, 4)) {
    const wish = { prompt: one?.prompt_ids, echo: true, logprobs: 1, max_tokens: 0 };
    const [choice] = (await ask(wish)).choices;
    const { token_logprobs = [], top_logprobs = [] } = choice?.logprobs ?? {};
    expect(token_logprobs[0]).toBeNull();
    expect(top_logprobs[0]).toBeNull();
    const [, ...found] = token_logprobs;
    expect(found).toHaveLength(one?.prompt_logprobs.length ?? -1);
    for (const [i, value] of found.entries()) {
      expect(value).toBeCloseTo(one?.prompt_logprobs[i] ?? 1, digits);
    }
    expect(choice?.finish_reason).toBe("length");
    expect(choice?.text).toBe(
      demo.tokenizer.decode(one?.prompt_ids ?? [], { skipSpecialTokens: false }),
    );
  }
  const { usage } = await ask({ prompt, echo: true, max_tokens: 0 });
  expect(usage).toMatchObject({ prompt_tokens: prompt.length, completion_tokens: 0 });
});

test("offsets say where each token begins in the text, prompt and answer", async () => {
  const text = "Grüße! Was ist 🦜 hier? Ja";
  const answer = await ask({
    prompt: text,
    echo: true,
    logprobs: 2,
    max_tokens: 3,
    ignore_eos: true,
  });
  const [choice] = answer.choices;
  const { tokens = [], text_offset = [], top_logprobs = [] } = choice?.logprobs ?? {};
  expect(tokens).toHaveLength(answer.usage.total_tokens);
  const characters = [...(choice?.text ?? "")];
  for (const [i, token] of tokens.entries()) {
    if (token.startsWith("bytes:")) continue;
    const at = text_offset[i] ?? -1;
    expect(characters.slice(at, at + [...token].length).join("")).toBe(token);
  }
  expect(tokens.some((token) => token.startsWith("bytes:\\x"))).toBe(true);
  for (const top of top_logprobs.slice(1)) {
    expect([2, 3]).toContain(Object.keys(top ?? {}).length);
  }
});

test("a stream has the same text, lists and end as the whole answer, for every choice", async () => {
  const wish = {
    model,
    prompt,
    n: 2,
    seed: 7,
    temperature: 1,
    max_tokens: 9,
    echo: true,
    logprobs: 1,
  };
  const whole = await ask(wish);
  const stream = await demo.client.completions.create({
    ...wish,
    stream: true,
    stream_options: { include_usage: true },
  });
  const texts = ["", ""];
  const logprobs: (number | null)[][] = [[], []];
  const ends: unknown[] = [];
  let usage: unknown;
  for await (const chunk of stream) {
    for (const choice of chunk.choices) {
      texts[choice.index] += choice.text;
      logprobs[choice.index]?.push(...(choice.logprobs?.token_logprobs ?? []));
      if (choice.finish_reason) ends[choice.index] = choice.finish_reason;
    }
    usage = chunk.usage;
  }
  expect(texts).toEqual(whole.choices.map(({ text }) => text));
  expect(ends).toEqual(whole.choices.map(({ finish_reason }) => finish_reason));
  expect(usage).toMatchObject({ total_tokens: whole.usage.total_tokens });
  for (const [index, list] of logprobs.entries()) {
    const expected = whole.choices[index]?.logprobs?.token_logprobs ?? [];
    expect(list).toHaveLength(expected.length);
    for (const [i, value] of list.entries()) {
      expect(value ?? 1).toBeCloseTo(expected[i] ?? 1, 3);
    }
  }
});

test("prompt_logprobs have vLLM's shape, for text and chat, whatever was cached of the prompt", async () => {
  await ask({ prompt });
  const answer = await ask({ prompt, prompt_logprobs: 2, logprobs: 4, echo: true });
  const entries = answer.choices[0]?.prompt_logprobs ?? [];
  expect(entries).toHaveLength(prompt.length);
  expect(entries[0]).toBeNull();
  entries.slice(1).forEach((entry, i) => {
    const own = entry?.[String(prompt[i + 1])];
    expect(own?.logprob).toBeCloseTo(golden?.prompt_logprobs[i] ?? 1, digits);
    const ranks = Object.values(entry ?? {}).map(({ rank }) => rank);
    expect(ranks).toEqual(expect.arrayContaining([1, 2, own?.rank]));
    expect(ranks.length).toBe((own?.rank ?? 0) > 2 ? 3 : 2);
  });
  const messages = [{ role: "user", content: "Hello there" }];
  const chat = await demo.ask<ChatCompletion>("/v1/chat/completions", {
    ...{ model, messages, max_tokens: 1, prompt_logprobs: 0 },
  });
  expect(chat.prompt_logprobs).toHaveLength(chat.usage.prompt_tokens);
  expect(Object.keys(chat.prompt_logprobs?.[1] ?? {})).toHaveLength(1);
});

test("the official client reads the answer, with what a plain request means by default", async () => {
  const answer = await demo.client.completions.create({ model, prompt: "My card", logprobs: 5 });
  expect(answer.object).toBe("text_completion");
  expect(answer.usage?.completion_tokens).toBeLessThanOrEqual(16);
  const [choice] = answer.choices;
  expect(choice?.logprobs?.tokens?.join("")).toContain(choice?.text.slice(0, 3));
  expect(Object.keys(choice?.logprobs?.top_logprobs?.[0] ?? {}).length).toBeGreaterThanOrEqual(5);
});

test("what cannot be is refused by its field", async () => {
  const cases: [Fields, string, string][] = [
    [{}, "missing_required_parameter", "prompt"],
    [{ prompt: "" }, "invalid_value", "prompt"],
    [{ prompt: ["a", ""] }, "invalid_value", "prompt[1]"],
    [{ prompt: [] }, "invalid_type", "prompt"],
    [{ prompt: [5000] }, "number_out_of_range", "prompt"],
    [{ prompt: [[1], [2], [3], [4], [5], [6]] }, "number_out_of_range", "prompt"],
    [{ prompt: new Array(3).fill(new Array(150).fill(5)) }, "number_out_of_range", "prompt"],
    [{ prompt: new Array(600).fill(5) }, "number_out_of_range", "prompt"],
    [{ prompt: "a", suffix: "b" }, "unsupported_parameter", "suffix"],
    [{ prompt: "a", best_of: 3 }, "unsupported_parameter", "best_of"],
    [{ prompt: "a", max_tokens: 0 }, "number_out_of_range", "max_tokens"],
    [{ prompt: "a", logprobs: 21 }, "number_out_of_range", "logprobs"],
    [
      { prompt: new Array(300).fill(5), echo: true, logprobs: 20, n: 8 },
      "number_out_of_range",
      "prompt",
    ],
    [{ prompt: "a", prompt_logprobs: 1, stream: true }, "invalid_value", "prompt_logprobs"],
    [{ prompt: "a", messages: [] }, "invalid_value", "messages"],
    [{ prompt: "a", model: "nobody" }, "model_not_found", "model"],
  ];
  for (const [fields, code, param] of cases) {
    expect(await refusal(fields)).toMatchObject({ code, param });
  }
});

test("a prompt that fails ends the whole request, and leaves nothing behind", async () => {
  const ban = { allowed_token_ids: [5], logit_bias: { 5: -100 } };
  expect(await refusal({ prompt: ["a", "b", "c"], ...ban })).toMatchObject({ status: 400 });
  await expect.poll(() => demo.server.engine.stats().running).toBe(0);
  expect(demo.server.engine.stats().waiting).toBe(0);
});
