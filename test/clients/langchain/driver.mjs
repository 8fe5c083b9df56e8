/** LangChain's chat models over OpenAI's two APIs and Anthropic's. */
import { HumanMessage, ToolMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { z } from "zod";
import { assert, base, check, models, plainAnswer, thrownBy } from "./checks.mjs";
import { chat, claude, embeddings } from "./connect.mjs";

const once = { maxRetries: 0 };
const kinds = {
  chat: (model) => chat(model, { ...once, streamUsage: true }),
  responses: (model) => chat(model, { ...once, useResponsesApi: true }),
  anthropic: (model) => claude(model, once),
};
const person = z.object({ name: z.string(), age: z.number() });
const weather = tool(async ({ city }) => `${city} has 21 degrees`, {
  name: "get_weather",
  description: "Tells the weather of a city",
  schema: z.object({ city: z.string() }),
});

for (const [kind, open] of Object.entries(kinds)) {
  for (const id of models) {
    const model = open(id);
    await check(`${kind} with ${id}: a text and its usage`, async () => {
      const answer = await model.invoke("Hello");
      assert.equal(answer.text, plainAnswer);
      assert.ok(answer.usage_metadata.total_tokens > 0);
    });
    await check(`${kind} with ${id}: a stream`, async () => {
      let whole;
      for await (const chunk of await model.stream("Hello")) whole = whole?.concat(chunk) ?? chunk;
      assert.equal(whole.text, plainAnswer);
      assert.ok(whole.usage_metadata.output_tokens > 0);
    });
    for (const streamed of [false, true]) {
      await check(`${kind} with ${id}: a ${streamed ? "streamed " : ""}loop of tools`, async () => {
        const bound = model.bindTools([weather]);
        const messages = [new HumanMessage("What is the weather in Paris and in Rome?")];
        const ask = async () => {
          if (!streamed) return bound.invoke(messages);
          let whole;
          for await (const one of await bound.stream(messages)) whole = whole?.concat(one) ?? one;
          return whole;
        };
        const first = await ask();
        assert.deepEqual(first.tool_calls.map(({ args }) => args.city).toSorted(), [
          "Paris",
          "Rome",
        ]);
        messages.push(first);
        for (const call of first.tool_calls) {
          const content = await weather.invoke(call.args);
          messages.push(new ToolMessage({ content, tool_call_id: call.id, name: call.name }));
        }
        const { text } = await ask();
        assert.match(text, /Paris has 21 degrees and Rome has 21 degrees/);
      });
    }
    await check(`${kind} with ${id}: an object of a schema`, async () => {
      const object = await model.withStructuredOutput(person).invoke("Who?");
      assert.deepEqual(object, { name: "Ada", age: 36 });
    });
    await check(`${kind} with ${id}: a stream that is left in the middle`, async () => {
      let text = "";
      for await (const chunk of await model.stream("Tell me a very long story.")) {
        text += chunk.text;
        if (text.length > 40) break;
      }
      assert.ok(text.length < 8000);
    });
  }
  await check(`${kind}: a model that is not there`, async () => {
    assert.equal((await thrownBy(() => open("no-such-model").invoke("Hello"))).status, 404);
  });
  await check(`${kind}: a limit`, async () => {
    assert.equal((await thrownBy(() => open("limited").invoke("Hello"))).status, 429);
  });
}

await check("embeddings of the embedded engine", async () => {
  const vectors = await embeddings(base, once).embedDocuments(["one", "two"]);
  assert.equal(vectors.length, 2);
  assert.ok(vectors[0].length > 8 && vectors[0].every(Number.isFinite));
});
