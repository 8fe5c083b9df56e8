/** Chat completions that are stored, driven by the official client over a real database. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { EmulatedAnswer } from "../../test/emulators/openai.ts";
import { type KeptGateway, openKeptGateway } from "../../test/support/kept-gateway.ts";

const dayMs = 24 * 60 * 60_000;
let nowMs = Date.parse("2026-06-01T12:00:00Z");
let kept: KeptGateway;
let says: EmulatedAnswer;
beforeAll(async () => {
  kept = await openKeptGateway({ answer: () => says, faults: ["cut:3"], now: () => nowMs });
});
afterAll(() => kept.close());
beforeEach(() => {
  says = { content: "Hello there, friend." };
  nowMs += 1000;
});

const model = "gpt-test";
const messages = [
  { role: "system" as const, content: "Be kind." },
  { role: "user" as const, content: [{ type: "text" as const, text: "Hi" }] },
];
const store = true;
const completions = (project?: "acme" | "other") => kept.client(project).chat.completions;

test("a completion is stored where it is asked for, with what was asked", async () => {
  const answer = await completions().create({
    model,
    messages,
    store,
    temperature: 0.5,
    metadata: { task: "greeting" },
  });
  const stored = await completions().retrieve(answer.id);
  expect(stored).toEqual({
    ...answer,
    request_id: answer._request_id,
    metadata: { task: "greeting" },
    input_user: null,
    tools: null,
    tool_choice: null,
    response_format: null,
    seed: null,
    temperature: 0.5,
    top_p: null,
    presence_penalty: null,
    frequency_penalty: null,
    service_tier: null,
  });
  const unstored = await completions().create({ model, messages });
  await expect(completions().retrieve(unstored.id)).rejects.toMatchObject({ status: 404 });

  const said = await completions().messages.list(answer.id);
  expect(said.data).toEqual([
    {
      id: `${answer.id}-0`,
      role: "system",
      content: "Be kind.",
      name: null,
      refusal: null,
      content_parts: null,
    },
    {
      id: `${answer.id}-1`,
      role: "user",
      content: null,
      name: null,
      refusal: null,
      content_parts: [{ type: "text", text: "Hi" }],
    },
  ]);
  const last = await completions().messages.list(answer.id, { order: "desc", limit: 1 });
  expect([last.data[0]?.id, last.has_more]).toEqual([`${answer.id}-1`, true]);
});

test.each([false, true])(
  "a stream is stored as the whole answer that it was (usage asked for: %s)",
  async (include_usage) => {
    const call = { id: "call_1", name: "weather", arguments: '{"city":"Ulm"}' };
    says = {
      content: "Let me see.",
      reasoning: "Hm, the weather.",
      toolCalls: [call, { ...call, id: "call_2" }],
    };
    const stream = completions().stream({
      model,
      messages,
      store,
      ...(include_usage && { stream_options: { include_usage } }),
    });
    const gathered = await stream.finalChatCompletion();
    const stored = await completions().retrieve(gathered.id);
    const { prompt_tokens, completion_tokens } = stored.usage ?? {};
    expect([prompt_tokens, completion_tokens]).toEqual([3, 3]);
    expect(stored).toMatchObject({
      id: gathered.id,
      object: "chat.completion",
      created: gathered.created,
      model,
      choices: [
        {
          index: 0,
          finish_reason: "tool_calls",
          logprobs: null,
          message: {
            role: "assistant",
            content: "Let me see.",
            refusal: null,
            reasoning_content: "Hm, the weather.",
            tool_calls: [
              {
                id: "call_1",
                type: "function",
                function: { name: "weather", arguments: '{"city":"Ulm"}' },
              },
              { id: "call_2" },
            ],
          },
        },
      ],
    });
  },
);

test("an answer that broke off is not stored", async () => {
  const before = await completions().list({ limit: 100 });
  const stream = await completions().create({ model: "cut", messages, store, stream: true });
  const reading = async () => {
    for await (const _ of stream);
  };
  await expect(reading()).rejects.toThrow();
  expect((await completions().list({ limit: 100 })).data).toHaveLength(before.data.length);
});

test("stored completions are listed by model and metadata, page by page", async () => {
  const ids: string[] = [];
  for (const job of ["a", "b", "a"]) {
    nowMs += 1000;
    const answer = await completions().create({
      model,
      messages,
      store,
      metadata: { job, list: "yes" },
    });
    ids.push(answer.id);
  }
  const list = { metadata: { list: "yes" } };
  const all: string[] = [];
  for await (const one of completions().list({ ...list, limit: 2 })) all.push(one.id);
  expect(all).toEqual(ids);
  const newest = await completions().list({ ...list, order: "desc", limit: 1 });
  expect([newest.data[0]?.id, newest.has_more]).toEqual([ids[2], true]);
  const some = await completions().list({ metadata: { list: "yes", job: "a" }, model });
  expect(some.data.map(({ id }) => id)).toEqual([ids[0], ids[2]]);
  expect((await completions().list({ ...list, model: "gpt-passing" })).data).toEqual([]);
  await expect(completions().list({ after: "chatcmpl-none" })).rejects.toMatchObject({
    status: 404,
    param: "after",
  });
});

test("metadata is changed, and a completion is deleted", async () => {
  const { id } = await completions().create({ model, messages, store });
  expect(await completions().update(id, { metadata: { checked: "yes" } })).toMatchObject({
    id,
    metadata: { checked: "yes" },
  });
  expect(await completions().retrieve(id)).toMatchObject({ metadata: { checked: "yes" } });
  expect(await completions().delete(id)).toEqual({
    id,
    object: "chat.completion.deleted",
    deleted: true,
  });
  await expect(completions().retrieve(id)).rejects.toMatchObject({ status: 404 });
  await expect(completions().delete(id)).rejects.toMatchObject({ status: 404 });
});

test("another project's completion does not exist, and nothing is kept for ever", async () => {
  const { id } = await completions().create({ model, messages, store });
  const theirs = completions("other");
  const gone = { status: 404 };
  await expect(theirs.retrieve(id)).rejects.toMatchObject(gone);
  await expect(theirs.update(id, { metadata: {} })).rejects.toMatchObject(gone);
  await expect(theirs.delete(id)).rejects.toMatchObject(gone);
  await expect(theirs.messages.list(id)).rejects.toMatchObject(gone);
  await expect(theirs.list({ after: id })).rejects.toMatchObject(gone);
  expect((await theirs.list()).data).toEqual([]);
  nowMs += 31 * dayMs;
  await expect(completions().retrieve(id)).rejects.toMatchObject(gone);
  expect((await completions().list()).data).toEqual([]);
});

test("what is wrong is refused by name, and any text can be stored", async () => {
  const many = Object.fromEntries(Array.from({ length: 17 }, (_, at) => [`k${at}`, "v"]));
  const refused = { status: 400, param: "metadata" };
  const asked = { model, messages, store };
  await expect(completions().create({ ...asked, metadata: many })).rejects.toMatchObject(refused);
  says = { content: "nul \0 and half a pair \ud83d" };
  const content = "nul \0";
  const { id } = await completions().create({ ...asked, messages: [{ role: "user", content }] });
  await expect(completions().update(id, { metadata: many })).rejects.toMatchObject(refused);
  await expect(completions().list({ model: "\0" })).rejects.toMatchObject({ status: 400 });
  await expect(completions().retrieve("\0")).rejects.toMatchObject({ status: 404 });
  expect((await completions().messages.list(id)).data[0]?.content).toBe(content);
  const stored = await completions().retrieve(id);
  expect(stored.choices[0]?.message.content).toBe(says.content);
});
