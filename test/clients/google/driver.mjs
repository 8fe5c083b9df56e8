/** Google's JavaScript SDK before every model: answers, streams, loops of tools, counts, errors. */
import { GoogleGenAI } from "@google/genai";
import { all, assert, check, models, plainAnswer, thrownBy, url } from "./checks.mjs";
import { client } from "./connect.mjs";

const asks = [{ role: "user", parts: [{ text: "What is the weather in Paris and in Rome?" }] }];
const weather = {
  name: "get_weather",
  description: "Tells the weather of a city",
  parameters: { type: "OBJECT", properties: { city: { type: "STRING" } }, required: ["city"] },
};
const config = { tools: [{ functionDeclarations: [weather] }] };

for (const model of models) {
  await check(`${model}: an answer and its usage`, async () => {
    const answer = await client.models.generateContent({ model, contents: "Hello" });
    assert.equal(answer.text, plainAnswer);
    assert.equal(answer.candidates[0].finishReason, "STOP");
    assert.ok(answer.usageMetadata.totalTokenCount > 0);
  });
  await check(`${model}: a stream`, async () => {
    const chunks = await all(
      await client.models.generateContentStream({ model, contents: "Hello" }),
    );
    assert.equal(chunks.map(({ text }) => text ?? "").join(""), plainAnswer);
  });
  await check(`${model}: a loop of tools`, async () => {
    const first = await client.models.generateContent({ model, contents: asks, config });
    const calls = first.functionCalls;
    assert.deepEqual(calls.map(({ args }) => args.city).toSorted(), ["Paris", "Rome"]);
    const results = calls.map(({ id, name, args }) => ({
      functionResponse: { id, name, response: { output: `${args.city} has 21 degrees` } },
    }));
    const said = [...asks, first.candidates[0].content, { role: "user", parts: results }];
    const last = await client.models.generateContent({ model, contents: said, config });
    assert.match(last.text, /Paris has 21 degrees.*Rome has 21 degrees/s);
  });
  await check(`${model}: a count of tokens`, async () => {
    const { totalTokens } = await client.models.countTokens({ model, contents: "Hello" });
    assert.ok(totalTokens > 0);
  });
}
await check("a model that is not there", async () => {
  const error = await thrownBy(() =>
    client.models.generateContent({ model: "no-such-model", contents: "Hello" }),
  );
  assert.equal(error.status, 404);
});
await check("a wrong key", async () => {
  const wrong = new GoogleGenAI({ apiKey: "sk-wrong", httpOptions: { baseUrl: url } });
  const error = await thrownBy(() =>
    wrong.models.generateContent({ model: models[0], contents: "Hello" }),
  );
  assert.equal(error.status, 401);
});
