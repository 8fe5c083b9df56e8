/** A provider that is left, fails or breaks: who is answered what, and what is paid for. */
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RequestRecord } from "../../sdk/client/requests.ts";
import { parseUsd } from "../../sdk/protocol/money.ts";
import { call, createTenant, eventually } from "../support/api.ts";
import { answerAsDearModel, longQuestion, rows, type Stage, setStage } from "../support/stage.ts";
import { Team } from "../support/team.ts";

let stage: Stage;
let team: Team;
beforeAll(async () => {
  stage = await setStage();
  const { url, adminKey } = stage.server;
  const { projectId: id, key } = await createTenant(url, adminKey, "a team");
  team = new Team(url, { id, key });
});
afterAll(() => stage?.close());

test("a client that leaves in the middle of a stream stops the provider, and pays what was relayed", async () => {
  const { data: stream, request_id: requestId } = await team
    .client(OpenAI)
    .chat.completions.create({
      model: "dear-model",
      stream: true,
      messages: [{ role: "user", content: longQuestion }],
    })
    .withResponse();
  let seen = 0;
  for await (const _chunk of stream) if (++seen === 5) break;

  await eventually("the provider to see it", async () => stage.emulator.aborts[0]);
  const record = await eventually("the settlement", async () => {
    const found = await call(stage.server.url, team.key, "GET", `/api/requests/${requestId}`);
    return found.status === 200 ? (found.body as RequestRecord) : undefined;
  });
  expect(record).toMatchObject({
    outcome: "client_gone",
    http_status: 499,
    usage_estimated: true,
    pricing: "priced",
    model: "dear-model",
    stream: true,
  });
  const { input, output } = record.tokens as { input: number; output: number };
  expect(output).toBeGreaterThan(0);
  // A hundred sentences were on their way; what nobody received is not billed.
  expect(output).toBeLessThan(400);
  expect(parseUsd(String(record.cost_usd))).toBe(
    BigInt(input) * 100_000n + BigInt(output) * 500_000n,
  );
});

test("a provider that fails before its first byte is replaced by the fallback, streamed or whole", async () => {
  const question = rows[3]?.question ?? "";
  const { data, response } = await team
    .client(OpenAI)
    .chat.completions.create({
      model: "steady",
      messages: [{ role: "user", content: question }],
    })
    .withResponse();
  expect(response.headers.get("x-switchyard-model")).toBe("dear-model");
  expect(data.choices[0]?.message.content).toBe(answerAsDearModel(question));

  const stream = await team.client(OpenAI).chat.completions.create({
    model: "steady",
    stream: true,
    messages: [{ role: "user", content: question }],
  });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? "";
  expect(text).toBe(answerAsDearModel(question));

  const record = await team.request(response.headers.get("x-request-id") ?? "");
  expect(record).toMatchObject({
    outcome: "ok",
    model: "dear-model",
    decision: {
      attempts: ["failing-model", "dear-model"],
      tried: [
        ...Array.from({ length: 3 }, () => ({ model: "failing-model", error: "upstream_error" })),
        { model: "dear-model" },
      ],
    },
  });
});

test("a failing model without a fallback is told as a fault of the provider, and costs nothing", async () => {
  const failure = await team
    .client(OpenAI)
    .chat.completions.create({
      model: "failing-model",
      messages: [{ role: "user", content: "hello" }],
    })
    .catch((error: unknown) => error);
  expect(failure).toMatchObject({ status: 502, code: "upstream_error" });
  const record = await team.request((failure as { requestID: string }).requestID);
  expect(record).toMatchObject({ outcome: "upstream_failed", pricing: "unused", cost_usd: "0" });
});
