/** OpenAI's Agents SDK over both of its APIs: loops of tools, streams, typed output. */
import { Agent, run, setOpenAIAPI, tool } from "@openai/agents";
import { z } from "zod";
import { assert, check, models, plainAnswer, thrownBy } from "./checks.mjs";
import "./connect.mjs";

const person = z.object({ name: z.string(), age: z.number() });
const agentOf = (model, more = {}) =>
  new Agent({ name: "Checker", instructions: "Be brief.", model, ...more });
const weatherTool = (asked) =>
  tool({
    name: "get_weather",
    description: "Tells the weather of a city",
    parameters: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      asked.push(city);
      return `${city} has 21 degrees`;
    },
  });
const checkLoop = (text, asked) => {
  assert.deepEqual(asked.toSorted(), ["Paris", "Rome"]);
  for (const city of asked) assert.match(text, new RegExp(`${city} has 21 degrees`));
};
const question = "What is the weather in Paris and in Rome?";

for (const api of ["responses", "chat_completions"]) {
  setOpenAIAPI(api);
  for (const model of models) {
    await check(`${api} with ${model}: a text`, async () => {
      const { finalOutput, rawResponses } = await run(agentOf(model), "Hello");
      assert.equal(finalOutput, plainAnswer);
      assert.ok(rawResponses[0].usage.totalTokens > 0);
    });
    await check(`${api} with ${model}: a loop of tools`, async () => {
      const asked = [];
      const { finalOutput } = await run(agentOf(model, { tools: [weatherTool(asked)] }), question);
      checkLoop(finalOutput, asked);
    });
    await check(`${api} with ${model}: a streamed loop of tools`, async () => {
      const asked = [];
      const agent = agentOf(model, { tools: [weatherTool(asked)] });
      const stream = await run(agent, question, { stream: true });
      let text = "";
      for await (const piece of stream.toTextStream()) text += piece;
      await stream.completed;
      checkLoop(text, asked);
    });
    await check(`${api} with ${model}: an object of a schema`, async () => {
      const { finalOutput } = await run(agentOf(model, { outputType: person }), "Who?");
      assert.deepEqual(finalOutput, { name: "Ada", age: 36 });
    });
    await check(`${api} with ${model}: a handoff to another agent`, async () => {
      const other = agentOf(model, { name: "Other" });
      const first = agentOf(model, {
        handoffs: [other],
        modelSettings: { toolChoice: "required" },
      });
      const { finalOutput, lastAgent } = await run(first, "Hello", { maxTurns: 4 });
      assert.equal(lastAgent.name, "Other");
      assert.match(finalOutput, /The tools say: /);
    });
  }
  await check(`${api}: a model that is not there`, async () => {
    const error = await thrownBy(() => run(agentOf("no-such-model"), "Hello"));
    assert.equal(error.status, 404);
    assert.equal(error.code, "model_not_found");
  });
}
