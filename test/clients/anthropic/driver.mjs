/** Anthropic's JavaScript SDK before every model: messages, streams, loops of tools, counts, errors. */
import Anthropic from "@anthropic-ai/sdk";
import { assert, check, models, plainAnswer, thrownBy } from "./checks.mjs";
import { client } from "./connect.mjs";

const once = client.withOptions({ maxRetries: 0 });
const hello = [{ role: "user", content: "Hello" }];
const asks = [{ role: "user", content: "What is the weather in Paris and in Rome?" }];
const tools = [
  {
    name: "get_weather",
    description: "Tells the weather of a city",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];
const textOf = ({ content }) => content.map(({ text }) => text ?? "").join("");

for (const model of models) {
  const body = { model, max_tokens: 1000 };
  await check(`${model}: a message and its usage`, async () => {
    const message = await once.messages.create({ ...body, messages: hello });
    assert.equal(textOf(message), plainAnswer);
    assert.equal(message.stop_reason, "end_turn");
    assert.ok(message.usage.input_tokens > 0 && message.usage.output_tokens > 0);
  });
  await check(`${model}: a stream`, async () => {
    const stream = once.messages.stream({ ...body, messages: hello });
    let text = "";
    stream.on("text", (delta) => {
      text += delta;
    });
    const message = await stream.finalMessage();
    assert.equal(text, plainAnswer);
    assert.equal(textOf(message), plainAnswer);
  });
  for (const streamed of [false, true]) {
    await check(`${model}: a ${streamed ? "streamed " : ""}loop of tools`, async () => {
      const ask = (messages) =>
        streamed
          ? once.messages.stream({ ...body, messages, tools }).finalMessage()
          : once.messages.create({ ...body, messages, tools });
      const first = await ask(asks);
      assert.equal(first.stop_reason, "tool_use");
      const calls = first.content.filter(({ type }) => type === "tool_use");
      assert.deepEqual(calls.map(({ input }) => input.city).toSorted(), ["Paris", "Rome"]);
      const results = calls.map(({ id, input }) => ({
        type: "tool_result",
        tool_use_id: id,
        content: `${input.city} has 21 degrees`,
      }));
      const said = { role: "assistant", content: first.content };
      const last = await ask([...asks, said, { role: "user", content: results }]);
      assert.match(textOf(last), /Paris has 21 degrees and Rome has 21 degrees/);
    });
  }
  await check(`${model}: a stream that is left in the middle`, async () => {
    const messages = [{ role: "user", content: "Tell me a very long story." }];
    const stream = once.messages.stream({ ...body, messages });
    let text = "";
    stream.on("text", (delta) => {
      text += delta;
      if (text.length > 40) stream.abort();
    });
    const error = await thrownBy(() => stream.finalMessage());
    assert.ok(error instanceof Anthropic.APIUserAbortError, String(error));
  });
  await check(`${model}: a count of tokens`, async () => {
    const { input_tokens } = await once.messages.countTokens({ model, messages: hello });
    assert.ok(input_tokens > 0);
  });
}
await check("a model that is not there", async () => {
  const error = await thrownBy(() =>
    once.messages.create({ model: "no-such-model", max_tokens: 9, messages: hello }),
  );
  assert.ok(error instanceof Anthropic.NotFoundError, String(error));
});
await check("a wrong key", async () => {
  const wrong = once.withOptions({ apiKey: "sk-wrong-key-of-nobody" });
  const error = await thrownBy(() =>
    wrong.messages.create({ model: models[0], max_tokens: 9, messages: hello }),
  );
  assert.ok(error instanceof Anthropic.AuthenticationError, String(error));
});
await check("an upstream's limit", async () => {
  const error = await thrownBy(() =>
    once.messages.create({ model: "limited", max_tokens: 9, messages: hello }),
  );
  assert.ok(error instanceof Anthropic.RateLimitError, String(error));
});
await check("a stream that breaks", async () => {
  const error = await thrownBy(() =>
    once.messages.stream({ model: "breaking", max_tokens: 9, messages: hello }).finalMessage(),
  );
  assert.ok(error instanceof Anthropic.APIError, String(error));
});
