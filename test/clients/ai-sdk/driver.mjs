/** Vercel's AI SDK with four of its providers, each before every model. */
import {
  APICallError,
  embedMany,
  generateObject,
  generateText,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import { z } from "zod";
import { all, assert, base, check, models, plainAnswer, thrownBy } from "./checks.mjs";
import { anthropic, compatible, google, openai } from "./connect.mjs";

const providers = {
  "openai-compatible": (id) => compatible(id),
  "openai, responses": (id) => openai(id),
  "openai, chat": (id) => openai.chat(id),
  anthropic: (id) => anthropic(id),
  google: (id) => google(id),
};
const person = z.object({ name: z.string(), age: z.number() });
const question = "What is the weather in Paris and in Rome?";
const asksWeather = (asked) => ({
  prompt: question,
  stopWhen: stepCountIs(4),
  tools: {
    get_weather: tool({
      description: "Tells the weather of a city",
      inputSchema: z.object({ city: z.string() }),
      execute: async ({ city }) => {
        asked.push(city);
        return `${city} has 21 degrees`;
      },
    }),
  },
});
const checkLoop = (text, asked) => {
  assert.deepEqual(asked.toSorted(), ["Paris", "Rome"]);
  for (const city of asked) assert.match(text, new RegExp(`${city} has 21 degrees`));
};

for (const [name, open] of Object.entries(providers)) {
  for (const id of models) {
    const model = open(id);
    const settings = { model, maxRetries: 0 };
    await check(`${name} with ${id}: a text and its usage`, async () => {
      const { text, usage, finishReason } = await generateText({ ...settings, prompt: "Hello" });
      assert.equal(text, plainAnswer);
      assert.equal(finishReason, "stop");
      assert.ok(usage.inputTokens > 0 && usage.outputTokens > 0);
    });
    await check(`${name} with ${id}: a stream`, async () => {
      const stream = streamText({ ...settings, prompt: "Hello", onError: () => {} });
      const deltas = await all(stream.textStream);
      assert.equal(deltas.join(""), plainAnswer);
      assert.ok(deltas.length > 1);
      assert.ok((await stream.usage).outputTokens > 0);
    });
    await check(`${name} with ${id}: a loop of tools`, async () => {
      const asked = [];
      const { text } = await generateText({ ...settings, ...asksWeather(asked) });
      checkLoop(text, asked);
    });
    await check(`${name} with ${id}: a streamed loop of tools`, async () => {
      const asked = [];
      const stream = streamText({ ...settings, ...asksWeather(asked), onError: () => {} });
      checkLoop((await all(stream.textStream)).join(""), asked);
    });
    await check(`${name} with ${id}: an object of a schema`, async () => {
      const { object } = await generateObject({ ...settings, schema: person, prompt: "Who?" });
      assert.deepEqual(object, { name: "Ada", age: 36 });
    });
    await check(`${name} with ${id}: a stream that is left in the middle`, async () => {
      const controller = new AbortController();
      const stream = streamText({
        ...settings,
        prompt: "Tell me a very long story.",
        abortSignal: controller.signal,
        onError: () => {},
      });
      let text = "";
      for await (const part of stream.fullStream) {
        if (part.type === "text-delta") text += part.text;
        if (text.length > 40) controller.abort();
      }
      assert.ok(text.length < 8000);
    });
  }
  await check(`${name}: a model that is not there`, async () => {
    const error = await thrownBy(() =>
      generateText({ model: open("no-such-model"), prompt: "Hello", maxRetries: 0 }),
    );
    assert.ok(APICallError.isInstance(error), String(error));
    assert.equal(error.statusCode, 404);
    assert.equal(error.isRetryable, false);
    assert.match(error.message, /no-such-model/);
  });
  await check(`${name}: an upstream that fails`, async () => {
    const error = await thrownBy(() =>
      generateText({ model: open("failing"), prompt: "Hello", maxRetries: 0 }),
    );
    assert.ok(APICallError.isInstance(error), String(error));
    assert.ok(error.statusCode >= 500);
    assert.equal(error.isRetryable, true);
  });
  await check(`${name}: a stream that breaks`, async () => {
    const errors = [];
    const stream = streamText({
      model: open("breaking"),
      prompt: "Hello",
      maxRetries: 0,
      onError: ({ error }) => errors.push(error),
    });
    for await (const part of stream.fullStream) if (part.type === "finish") errors.push(part);
    assert.ok(errors.length > 0);
    assert.notEqual(errors.at(-1)?.finishReason, "stop");
  });
}

for (const [name, model] of Object.entries({
  "openai-compatible": compatible.textEmbeddingModel(base),
  openai: openai.embedding(base),
})) {
  await check(`${name}: embeddings of the embedded engine`, async () => {
    const { embeddings } = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
    assert.equal(embeddings.length, 2);
    assert.ok(embeddings[0].length > 8 && embeddings[0].every(Number.isFinite));
    assert.notDeepEqual(embeddings[0], embeddings[1]);
  });
}
