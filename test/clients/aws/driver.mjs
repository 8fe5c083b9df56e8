/** AWS's JavaScript SDK before every model: answers, streams, loops of tools, errors. */
import {
  BedrockRuntimeClient,
  ConverseCommand,
  ConverseStreamCommand,
} from "@aws-sdk/client-bedrock-runtime";
import { all, assert, check, models, plainAnswer, thrownBy } from "./checks.mjs";
import { client } from "./connect.mjs";

const said = (text) => [{ role: "user", content: [{ text }] }];
const asks = said("What is the weather in Paris and in Rome?");
const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const toolConfig = {
  tools: [{ toolSpec: { name: "get_weather", inputSchema: { json: schema } } }],
};
const converse = (input, by = client) => by.send(new ConverseCommand(input));
const textOf = ({ output }) => output.message.content.map(({ text }) => text ?? "").join("");

for (const modelId of models) {
  await check(`${modelId}: an answer and its usage`, async () => {
    const answer = await converse({ modelId, messages: said("Hello") });
    assert.equal(textOf(answer), plainAnswer);
    assert.equal(answer.stopReason, "end_turn");
    assert.ok(answer.usage.totalTokens > 0);
  });
  await check(`${modelId}: a stream`, async () => {
    const command = new ConverseStreamCommand({ modelId, messages: said("Hello") });
    const events = await all((await client.send(command)).stream);
    const text = events.map((event) => event.contentBlockDelta?.delta?.text ?? "").join("");
    assert.equal(text, plainAnswer);
    assert.ok(events.some(({ messageStop }) => messageStop?.stopReason === "end_turn"));
  });
  await check(`${modelId}: a loop of tools`, async () => {
    const first = await converse({ modelId, messages: asks, toolConfig });
    assert.equal(first.stopReason, "tool_use");
    const { message } = first.output;
    const calls = message.content.flatMap(({ toolUse }) => toolUse ?? []);
    assert.deepEqual(calls.map(({ input }) => input.city).toSorted(), ["Paris", "Rome"]);
    const content = calls.map(({ toolUseId, input }) => ({
      toolResult: { toolUseId, content: [{ text: `${input.city} has 21 degrees` }] },
    }));
    const messages = [...asks, message, { role: "user", content }];
    const last = await converse({ modelId, messages, toolConfig });
    assert.match(textOf(last), /Paris has 21 degrees.*Rome has 21 degrees/s);
  });
}
await check("a model that is not there", async () => {
  const error = await thrownBy(() =>
    converse({ modelId: "no-such-model", messages: said("Hello") }),
  );
  assert.equal(error.name, "ResourceNotFoundException");
});
await check("a wrong key", async () => {
  const { endpoint, region, requestHandler } = client.config;
  const wrong = new BedrockRuntimeClient({
    ...{ endpoint, region, requestHandler, token: { token: "sk-wrong" } },
    authSchemePreference: ["httpBearerAuth"],
  });
  const error = await thrownBy(() =>
    converse({ modelId: models[0], messages: said("Hello") }, wrong),
  );
  assert.equal(error.name, "AccessDeniedException");
});
await check("an upstream's limit", async () => {
  const error = await thrownBy(() => converse({ modelId: "limited", messages: said("Hello") }));
  assert.equal(error.name, "ThrottlingException");
});
