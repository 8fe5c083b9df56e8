/** The emulator against Cohere's own SDK: what that cannot read is emulated wrongly. */
import { CohereClientV2, CohereError } from "cohere-ai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CohereEmulator, startCohereEmulator } from "./cohere.ts";

const tools = [
  {
    type: "function" as const,
    function: { name: "look", description: "Looks.", parameters: { type: "object" } },
  },
];
const said = {
  content: [
    { type: "thinking" as const, thinking: "Let me see." },
    { type: "text" as const, text: "Hello, wörld 🦜" },
  ],
  citations: [
    {
      start: 0,
      end: 5,
      text: "Hello",
      content_index: 1,
      type: "TEXT_CONTENT",
      sources: [{ type: "document", id: "doc-0", document: { id: "doc-0", title: "Greetings" } }],
    },
  ],
  usage: {
    billed_units: { input_tokens: 2, output_tokens: 7 },
    tokens: { input_tokens: 102, output_tokens: 7 },
    cached_tokens: 64,
  },
};
const called = {
  tool_plan: "I will look.",
  tool_calls: ["look_1", "look_2"].map((id) => ({
    id,
    type: "function" as const,
    function: { name: "look", arguments: '{"x":"ö"}' },
  })),
};

let emulator: CohereEmulator;
let client: CohereClientV2;
beforeAll(async () => {
  emulator = await startCohereEmulator({
    apiKey: "key",
    answer: ({ tools }) => (tools ? called : said),
  });
  client = new CohereClientV2({
    token: "key",
    environment: emulator.baseUrl.replace("/v2", ""),
    maxRetries: 0,
  });
});
afterAll(() => emulator.close());

const ask = (model: string) => ({
  model,
  messages: [{ role: "user" as const, content: "Hi there" }],
});

test("a whole answer is read, and a stream of it says the same", async () => {
  const whole = await client.chat(ask("m"));
  expect(whole).toMatchObject({
    finishReason: "COMPLETE",
    message: { role: "assistant", content: said.content, citations: [{ start: 0, end: 5 }] },
    usage: { billedUnits: { inputTokens: 2, outputTokens: 7 }, cachedTokens: 64 },
  });
  for (const model of ["m", "m!split"]) {
    let [text, thinking] = ["", ""];
    const cited: unknown[] = [];
    let end: unknown;
    for await (const event of await client.chatStream(ask(model))) {
      if (event.type === "content-delta") {
        text += event.delta?.message?.content?.text ?? "";
        thinking += event.delta?.message?.content?.thinking ?? "";
      }
      if (event.type === "citation-start") cited.push(event.delta?.message?.citations);
      if (event.type === "message-end") end = event.delta;
    }
    expect({ text, thinking }).toEqual({ text: "Hello, wörld 🦜", thinking: "Let me see." });
    expect(cited).toMatchObject(whole.message.citations ?? []);
    expect(end).toMatchObject({ finishReason: "COMPLETE", usage: whole.usage });
  }
});

test("tools are called after a plan, piece by piece in a stream", async () => {
  const whole = await client.chat({ ...ask("m"), tools });
  expect(whole).toMatchObject({
    finishReason: "TOOL_CALL",
    message: { toolPlan: "I will look.", toolCalls: called.tool_calls },
  });
  let plan = "";
  const calls: { id: string; text: string }[] = [];
  for await (const event of await client.chatStream({ ...ask("m"), tools })) {
    if (event.type === "tool-plan-delta") plan += event.delta?.message?.toolPlan ?? "";
    if (event.type === "tool-call-start") {
      calls.push({ id: event.delta?.message?.toolCalls?.id ?? "", text: "" });
    }
    const last = calls.at(-1);
    if (event.type === "tool-call-delta" && last) {
      last.text += event.delta?.message?.toolCalls?.function?.arguments ?? "";
    }
  }
  expect(plan).toBe("I will look.");
  expect(calls).toEqual(["look_1", "look_2"].map((id) => ({ id, text: '{"x":"ö"}' })));
});

test("texts become vectors, as numbers or in base64", async () => {
  const embed = (embeddingType: "float" | "base64") =>
    client.embed({
      model: "m",
      texts: ["a", "bcd"],
      inputType: "search_document",
      embeddingTypes: [embeddingType],
    });
  expect((await embed("float")).embeddings.float).toEqual([
    [1, 0.5],
    [3, 0.5],
  ]);
  const [, second = ""] = (await embed("base64")).embeddings.base64 ?? [];
  expect([...new Float32Array(new Uint8Array(Buffer.from(second, "base64")).buffer)]).toEqual([
    3, 0.5,
  ]);
});

test("its errors are of the SDK's own class, and wrong requests are refused", async () => {
  const failures: [object, number, RegExp][] = [
    [ask("m!status-429"), 429, /per minute request limit/],
    [{ ...ask("m"), toolChoice: "REQUIRED" }, 400, /tool_choice requires tools/],
    [{ ...ask("m"), p: 2 }, 400, /invalid request/],
    [{ ...ask("m"), messages: [{ role: "user", content: "" }] }, 400, /invalid request/],
  ];
  for (const [request, statusCode, message] of failures) {
    const thrown = await client.chat(request as never).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(thrown).toBeInstanceOf(CohereError);
    expect(thrown).toMatchObject({ statusCode });
    expect(JSON.stringify((thrown as CohereError).body)).toMatch(message);
  }
});
