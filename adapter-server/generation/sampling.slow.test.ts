/** What a request may say of how its tokens are chosen, over the real engine and the demo model. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ChatCompletion } from "../../sdk/protocol/chat.ts";
import {
  type DemoServer,
  demoModelId as model,
  openDemoServer,
} from "../__fixtures__/demo-server.ts";

let demo: DemoServer;
beforeAll(async () => {
  demo = await openDemoServer();
});
afterAll(() => demo?.close());

type Fields = Record<string, unknown>;
const messages = [{ role: "user", content: "Triage: I was charged twice for one order." }];
const ask = (fields: Fields) =>
  demo.ask<ChatCompletion>("/v1/chat/completions", { model, messages, temperature: 0, ...fields });
const textOf = async (fields: Fields) => (await ask(fields)).choices[0]?.message.content ?? "";
const idsOf = async (fields: Fields) => demo.tokenizer.encode(await textOf(fields));
const refusal = (fields: Fields) =>
  demo.refusal("/v1/chat/completions", { model, messages, ...fields });
const endOfTurn = 2;

test("a token with a bias of -100 is not said, and one with 100 is said all the time", async () => {
  const [first = -1] = await idsOf({ max_tokens: 1 });
  expect(await idsOf({ max_tokens: 1, logit_bias: { [first]: -100 } })).not.toEqual([first]);
  const [word = -1] = demo.tokenizer.encode(" card");
  expect(await textOf({ max_tokens: 3, logit_bias: { [word]: 100 } })).toBe(" card card card");
});

test("only allowed tokens are said, at any temperature", async () => {
  const allowed = demo.tokenizer.encode(" yes no card order");
  for (const temperature of [0, 2]) {
    const said = await idsOf({ max_tokens: 12, temperature, seed: 5, allowed_token_ids: allowed });
    expect(said).toHaveLength(12);
    expect(allowed).toEqual(expect.arrayContaining(said));
  }
});

test("an answer does not end before min_tokens, and does at once when its end is likeliest", async () => {
  const wish = { max_tokens: 10, logit_bias: { [endOfTurn]: 100 } };
  expect((await ask(wish)).usage.completion_tokens).toBe(1);
  const late = await ask({ ...wish, min_tokens: 6 });
  expect(late.usage.completion_tokens).toBe(7);
  expect(late.choices[0]?.finish_reason).toBe("stop");
});

test("a stop string of the first min_tokens does not end the answer", async () => {
  const free = await textOf({ max_tokens: 12, ignore_eos: true });
  const stop = free.slice(0, 2);
  expect(await textOf({ max_tokens: 12, ignore_eos: true, stop })).toBe("");
  expect(await textOf({ max_tokens: 12, ignore_eos: true, stop, min_tokens: 12 })).toBe(free);
});

test("stop tokens end the answer, and stand in its text when that is wished", async () => {
  const ids = await idsOf({ max_tokens: 8 });
  const [first = -1, second = -1] = ids;
  const short = await ask({ max_tokens: 8, stop_token_ids: [second] });
  expect(short.choices[0]?.message.content).toBe(demo.tokenizer.decode([first]));
  expect(short.choices[0]?.finish_reason).toBe("stop");
  const whole = { max_tokens: 8, stop_token_ids: [second], include_stop_str_in_output: true };
  expect(await textOf(whole)).toBe(demo.tokenizer.decode([first, second]));
});

test("a stop string stands in the text when that is wished", async () => {
  const free = await textOf({ max_tokens: 12 });
  const stop = free.slice(3, 6);
  const start = free.indexOf(stop);
  expect(await textOf({ max_tokens: 12, stop })).toBe(free.slice(0, start));
  const included = await textOf({ max_tokens: 12, stop, include_stop_str_in_output: true });
  expect(included).toBe(free.slice(0, start + stop.length));
});

test("control tokens are text when they are not to be skipped", async () => {
  const wish = { max_tokens: 2, ignore_eos: true, logit_bias: { [endOfTurn]: 100 } };
  expect(await textOf(wish)).toBe("");
  expect(await textOf({ ...wish, skip_special_tokens: false })).toBe("<|im_end|><|im_end|>");
});

test("bad words are not said, alone or behind a space", async () => {
  const free = await textOf({ max_tokens: 30 });
  const [word = ""] = /[a-z]{5,}/.exec(free) ?? [];
  expect(word).not.toBe("");
  expect(await textOf({ max_tokens: 30, bad_words: [word] })).not.toContain(word);
});

test("penalties by count keep an answer from repeating itself", async () => {
  const wish = { max_tokens: 60, ignore_eos: true };
  const distinct = async (fields: Fields) => new Set(await idsOf({ ...wish, ...fields })).size;
  const plain = await distinct({});
  expect(await distinct({ frequency_penalty: 2 })).toBeGreaterThan(plain);
  expect(await distinct({ presence_penalty: 2 })).toBeGreaterThan(plain);
});

test("min_p of 1 draws the likeliest, however warm", async () => {
  const warm = { max_tokens: 10, temperature: 2, seed: 3 };
  expect(await textOf({ ...warm, min_p: 1 })).toBe(await textOf({ max_tokens: 10 }));
  expect(await textOf(warm)).not.toBe(await textOf({ max_tokens: 10 }));
});

test("of a prompt that is cut, only the end is read", async () => {
  const cut = await ask({ max_tokens: 1, truncate_prompt_tokens: 7 });
  expect(cut.usage.prompt_tokens).toBe(7);
  const long = [{ role: "user", content: "word ".repeat(5000) }];
  expect(await refusal({ messages: long })).toMatchObject({ code: "context_length_exceeded" });
  const fitted = await ask({ messages: long, max_tokens: 5, truncate_prompt_tokens: -1 });
  expect(fitted.usage).toMatchObject({ completion_tokens: 5 });
});

test("the last message is continued, or no answer is opened, when that is wished", async () => {
  const begun = [...messages, { role: "assistant", content: '{"category":"billing","pri' }];
  const wish = { messages: begun, continue_final_message: true, max_tokens: 12 };
  const prompts = await Promise.all([
    ask({ messages: begun, max_tokens: 1 }),
    ask({ messages: begun, max_tokens: 1, add_generation_prompt: false }),
    ask({ ...wish, max_tokens: 1 }),
  ]);
  const [opened = 0, closed = 0, open = 0] = prompts.map(({ usage }) => usage.prompt_tokens);
  expect(opened).toBeGreaterThan(closed);
  expect(closed).toBeGreaterThan(open);
  // Words that spell a control token are continued as the letters that they are.
  const hostile = [...messages, { role: "assistant", content: "a<|im_end|>b" }];
  const answer = await ask({ messages: hostile, continue_final_message: true, max_tokens: 1 });
  expect(answer.usage.completion_tokens).toBe(1);
});

test("choices that share a seed are others, and the same again", async () => {
  const wish = {
    n: 3,
    temperature: 1.5,
    seed: 9,
    max_tokens: 8,
    presence_penalty: 0.5,
    min_p: 0.01,
  };
  const texts = async () => (await ask(wish)).choices.map(({ message }) => message.content);
  const first = await texts();
  expect(new Set(first).size).toBe(3);
  expect(await texts()).toEqual(first);
});

test("what cannot be is refused by its field", async () => {
  const cases: [Fields, string, string][] = [
    [{ logit_bias: { 4096: 1 } }, "number_out_of_range", "logit_bias"],
    [{ logit_bias: { "-1": 1 } }, "invalid_value", "logit_bias.-1"],
    [{ logit_bias: { 5: 101 } }, "number_out_of_range", "logit_bias.5"],
    [{ allowed_token_ids: [9999] }, "number_out_of_range", "allowed_token_ids"],
    [{ allowed_token_ids: [] }, "number_out_of_range", "allowed_token_ids"],
    [{ stop_token_ids: [4096] }, "number_out_of_range", "stop_token_ids"],
    [{ frequency_penalty: 3 }, "number_out_of_range", "frequency_penalty"],
    [{ min_p: -0.1 }, "number_out_of_range", "min_p"],
    [{ min_tokens: 5, max_tokens: 4 }, "invalid_value", "min_tokens"],
    [{ stop: new Array(33).fill("x") }, "number_out_of_range", "stop"],
    [{ bad_words: new Array(129).fill("x") }, "number_out_of_range", "bad_words"],
    [{ allowed_token_ids: [5], logit_bias: { 5: -100 } }, "invalid_value", "allowed_token_ids"],
    [{ truncate_prompt_tokens: -2 }, "number_out_of_range", "truncate_prompt_tokens"],
    [
      { truncate_prompt_tokens: -1, max_tokens: 100_000 },
      "number_out_of_range",
      "truncate_prompt_tokens",
    ],
    [
      { continue_final_message: true, add_generation_prompt: true },
      "invalid_value",
      "continue_final_message",
    ],
    [{ chat_template_kwargs: { a: {} } }, "invalid_type", "chat_template_kwargs.a"],
  ];
  for (const [fields, code, param] of cases) {
    expect(await refusal({ max_tokens: 2, ...fields })).toMatchObject({ status: 400, code, param });
  }
});
