/** Conversations that are kept by name, driven by the official client over a real database. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { EmulatedRequest } from "../../test/emulators/openai.ts";
import { type KeptGateway, openKeptGateway } from "../../test/support/kept-gateway.ts";

const dayMs = 24 * 60 * 60_000;
let nowMs = Date.parse("2026-06-01T12:00:00Z");
let kept: KeptGateway;
let says: (request: EmulatedRequest) => string;
beforeAll(async () => {
  kept = await openKeptGateway({
    answer: (request) => says(request),
    limits: { historyBytesMax: 20_000, conversationItemsMax: 30 },
    now: () => nowMs,
  });
  says = ({ messages, input }) => `That was message ${(messages ?? input)?.length}.`;
});
afterAll(() => kept.close());

const model = "gpt-test";
const gone = (id: string) => ({ status: 404, message: expect.stringContaining(id) });
const message = (content: string) => ({ role: "user" as const, content });
const sent = () => kept.emulator.requests.at(-1)?.body;

test("a conversation is created, read, changed and deleted in OpenAI's shapes", async () => {
  const { conversations } = kept.client();
  const created = await conversations.create({
    metadata: { topic: "parcels" },
    items: [message("Where is it?"), { role: "assistant", content: "On its way." }],
  });
  expect(created).toEqual({
    id: expect.stringMatching(/^conv_/),
    object: "conversation",
    created_at: Math.floor(nowMs / 1000),
    metadata: { topic: "parcels" },
  });
  expect(await conversations.retrieve(created.id)).toEqual(created);
  const changed = await conversations.update(created.id, { metadata: { topic: "lost parcels" } });
  expect(changed.metadata).toEqual({ topic: "lost parcels" });
  expect((await conversations.items.list(created.id, { order: "asc" })).data).toEqual([
    {
      id: expect.stringMatching(/^msg_/),
      type: "message",
      role: "user",
      status: "completed",
      content: [{ type: "input_text", text: "Where is it?" }],
    },
    {
      id: expect.stringMatching(/^msg_/),
      type: "message",
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: "On its way.", annotations: [], logprobs: [] }],
    },
  ]);
  expect(await conversations.delete(created.id)).toEqual({
    id: created.id,
    object: "conversation.deleted",
    deleted: true,
  });
  await expect(conversations.retrieve(created.id)).rejects.toMatchObject(gone(created.id));
  await expect(conversations.items.list(created.id)).rejects.toMatchObject(gone(created.id));
  expect((await conversations.create()).metadata).toEqual({});
});

test("items are added, listed page by page in either order, read and deleted", async () => {
  const { conversations } = kept.client();
  const { items } = conversations;
  const { id } = await conversations.create({});
  const added = await items.create(id, {
    items: Array.from({ length: 7 }, (_, index) => message(`item ${index}`)),
  });
  expect(added).toMatchObject({
    object: "list",
    has_more: false,
    first_id: added.data[0]?.id,
    last_id: added.data[6]?.id,
  });
  const ids = added.data.map((item) => item.id);
  const first = await items.list(id, { order: "asc", limit: 3 });
  expect(first.data.map((item) => item.id)).toEqual(ids.slice(0, 3));
  expect([first.has_more, first.last_id]).toEqual([true, ids[2]]);
  const all: unknown[] = [];
  for await (const item of items.list(id, { limit: 2 })) all.push(item.id);
  expect(all).toEqual(ids.toReversed());

  const one = { conversation_id: id };
  expect(await items.retrieve(ids[3] ?? "", one)).toMatchObject({
    content: [{ type: "input_text", text: "item 3" }],
  });
  expect(await items.delete(ids[3] ?? "", one)).toMatchObject({ id, object: "conversation" });
  await expect(items.retrieve(ids[3] ?? "", one)).rejects.toMatchObject({ status: 404 });
  await expect(items.delete(ids[3] ?? "", one)).rejects.toMatchObject({ status: 404 });
  expect((await items.list(id)).data).toHaveLength(6);
  await expect(items.list(id, { after: "msg_other" })).rejects.toMatchObject({
    status: 404,
    param: "after",
  });
});

test("what is large or secret in an item is shown to who asks for it", async () => {
  const { conversations } = kept.client();
  const { items } = conversations;
  const image_url = "data:image/png;base64,AAAA";
  const { id } = await conversations.create({
    items: [
      { role: "user", content: [{ type: "input_image", image_url, detail: "low" }] },
      { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "sealed" },
    ],
  });
  const bare = await items.list(id, { order: "asc" });
  expect(bare.data).toMatchObject([{ content: [{ image_url: null }] }, { summary: [] }]);
  expect(bare.data[1]).not.toHaveProperty("encrypted_content");
  const whole = await items.list(id, {
    order: "asc",
    include: ["message.input_image.image_url", "reasoning.encrypted_content"],
  });
  expect(whole.data).toMatchObject([{ content: [{ image_url }] }, { encrypted_content: "sealed" }]);
  await expect(items.list(id, { include: ["secrets"] as never })).rejects.toMatchObject({
    status: 400,
    param: "include",
  });
});

test.each([model, "gpt-passing"])(
  "%s answers in a conversation, whole and streamed, and both sides are added to it",
  async (named) => {
    const { conversations, responses } = kept.client();
    const conversation = await conversations.create({
      items: [{ role: "system", content: "Be brief." }],
    });
    const first = await responses.create({
      model: named,
      conversation: conversation.id,
      input: "one",
    });
    expect(first.conversation).toEqual({ id: conversation.id });
    const stream = responses.stream({
      model: named,
      conversation: { id: conversation.id },
      input: [message("two")],
    });
    const second = await stream.finalResponse();
    expect(second.conversation).toEqual({ id: conversation.id });
    const asked = sent()?.messages ?? sent()?.input;
    expect((asked as { role: string }[]).map(({ role }) => role)).toEqual([
      "system",
      "user",
      "assistant",
      "user",
    ]);
    expect(sent()).not.toHaveProperty("conversation");
    const { data } = await conversations.items.list(conversation.id, { order: "asc" });
    const said = data.map((item) => item.type === "message" && item.content[0]);
    expect(said).toMatchObject([
      { text: "Be brief." },
      { text: "one" },
      { text: first.output_text },
      { text: "two" },
      { text: second.output_text },
    ]);
    expect(data[2]?.id).toBe(first.output[0]?.id);
    expect(await responses.retrieve(second.id)).toMatchObject({
      conversation: { id: conversation.id },
    });
  },
);

test("a tool's call and its output are kept with what was said", async () => {
  const { conversations, responses } = kept.client();
  const { id } = await conversations.create({
    items: [
      message("Weather?"),
      { type: "function_call", call_id: "call_1", name: "weather", arguments: "{}" },
    ],
  });
  await responses.create({
    model,
    conversation: id,
    store: false,
    input: [{ type: "function_call_output", call_id: "call_1", output: "Rain." }],
  });
  expect(sent()?.messages).toMatchObject([
    { role: "user" },
    { role: "assistant", tool_calls: [{ id: "call_1" }] },
    { role: "tool", tool_call_id: "call_1", content: "Rain." },
  ]);
  const { data } = await conversations.items.list(id, { order: "asc" });
  expect(data.map(({ type }) => type)).toEqual([
    "message",
    "function_call",
    "function_call_output",
    "message",
  ]);
});

test("turns at the same time are each added whole", async () => {
  const { conversations, responses } = kept.client();
  const { id } = await conversations.create({});
  await Promise.all(
    Array.from({ length: 8 }, (_, turn) =>
      responses.create({
        model,
        conversation: id,
        store: turn % 2 === 0,
        input: [message(`a${turn}`), message(`b${turn}`)],
      }),
    ),
  );
  const { data } = await conversations.items.list(id, { order: "asc", limit: 100 });
  expect(data).toHaveLength(24);
  for (let at = 0; at < 24; at += 3) {
    const texts = data.slice(at, at + 3).map((item) => {
      const [part] = item.type === "message" ? item.content : [];
      return part && "text" in part ? part.text : "";
    });
    expect(texts[0]?.replace("a", "b")).toBe(texts[1]);
    expect(texts[2]).toMatch(/^That was message/);
  }
});

test("a conversation that was deleted while a model answered costs nobody the answer", async () => {
  const { conversations, responses } = kept.client();
  const { id } = await conversations.create({});
  // More than is read ahead of a client that does not read.
  const before = says;
  says = () => "word ".repeat(5_000);
  const stream = await responses.create({ model, conversation: id, input: "x", stream: true });
  says = before;
  await conversations.delete(id);
  let final: unknown;
  for await (const event of stream) if (event.type === "response.completed") final = event.response;
  expect(final).toMatchObject({ status: "completed", store: false, conversation: null });
});

test("another project's conversation does not exist", async () => {
  const { id } = await kept.client().conversations.create({ items: [message("secret")] });
  const { data } = await kept.client().conversations.items.list(id);
  const itemId = data[0]?.id ?? "";
  const { conversations, responses } = kept.client("other");
  const { items } = conversations;
  for (const ask of [
    () => conversations.retrieve(id),
    () => conversations.update(id, { metadata: {} }),
    () => conversations.delete(id),
    () => items.list(id),
    () => items.create(id, { items: [message("x")] }),
    () => items.retrieve(itemId, { conversation_id: id }),
    () => items.delete(itemId, { conversation_id: id }),
    () => responses.create({ model, conversation: id, input: "x" }),
  ]) {
    await expect(ask()).rejects.toMatchObject(gone(id));
  }
  expect((await kept.client().conversations.items.list(id)).data).toHaveLength(1);
});

test("what is wrong is refused by name", async () => {
  const { conversations, responses } = kept.client();
  const { id } = await conversations.create({});
  const { id: previous_response_id } = await responses.create({ model, input: "x" });
  const pairs = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, at) => [`k${at}`, "v"]));
  const refused = async (asking: Promise<unknown>, param: string | RegExp, status = 400) =>
    expect(await asking.catch((error: unknown) => error)).toMatchObject({
      status,
      param: typeof param === "string" ? param : expect.stringMatching(param),
    });
  await refused(
    responses.create({ model, input: "x", conversation: id, previous_response_id }),
    "previous_response_id",
  );
  await refused(responses.create({ model, input: "x", conversation: 7 as never }), "conversation");
  await refused(responses.create({ model, input: "x", prompt: { id: "pmpt_1" } }), "prompt");
  await refused(conversations.create({ metadata: pairs(17) }), "metadata");
  await refused(conversations.create({ metadata: { a: "v".repeat(513) } }), "metadata.a");
  await refused(conversations.create({ metadata: { a: "\0" } }), "metadata.a");
  await refused(conversations.create({ nope: 1 } as never), "nope");
  const many = Array.from({ length: 21 }, () => message("x"));
  await refused(conversations.create({ items: many }), "items");
  await refused(conversations.items.create(id, { items: many }), "items");
  await refused(conversations.items.create(id, { items: [] }), "items");
  await refused(conversations.items.create(id, { items: [7 as never] }), /^items\[0\]/);
  await refused(
    conversations.items.create(id, { items: [{ type: "toString" } as never] }),
    "items[0]",
  );
  await refused(conversations.items.list(id, { limit: 101 }), "limit");
  await refused(conversations.items.list(id, { order: "up" as never }), "order");
  await refused(responses.create({ model, input: "x", metadata: pairs(17) }), "metadata");
  await refused(conversations.create({ metadata: { half: "\ud83d" } }), "metadata.half");
});

test("any text can be kept, and ids that no database could hold are not there", async () => {
  const { conversations } = kept.client();
  const text = "nul \0, half a pair \ud83d, an emoji 🚂";
  const { id } = await conversations.create({ items: [message(text)] });
  const { data } = await conversations.items.list(id);
  expect(data[0]).toMatchObject({ content: [{ text }] });
  await expect(conversations.retrieve("conv_\0")).rejects.toMatchObject({ status: 404 });
  await expect(
    conversations.items.retrieve("msg_\0", { conversation_id: id }),
  ).rejects.toMatchObject({ status: 404 });
});

test("a conversation is bounded, and forgotten after its time without a word", async () => {
  const { conversations, responses } = kept.client();
  const { id } = await conversations.create({ items: [message("x".repeat(15_000))] });
  const more = { items: [message("y".repeat(6_000))] };
  await expect(conversations.items.create(id, more)).rejects.toMatchObject({
    status: 413,
    param: "items",
  });
  expect((await conversations.items.list(id)).data).toHaveLength(1);
  await responses.create({ model, conversation: id, input: "z".repeat(6_000) });
  await expect(responses.create({ model, conversation: id, input: "on" })).rejects.toMatchObject({
    status: 413,
    param: "conversation",
  });
  nowMs += 20 * dayMs;
  const young = await conversations.create({});
  nowMs += 20 * dayMs;
  await expect(conversations.retrieve(id)).rejects.toMatchObject({ status: 404 });
  await conversations.items.create(young.id, { items: [message("still here")] });
  nowMs += 20 * dayMs;
  expect((await conversations.items.list(young.id)).data).toHaveLength(1);
});
