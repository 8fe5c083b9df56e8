/** The time that a request gives itself holds for all that it waits for. */
import { expect, test } from "vitest";
import { demoModelId, openDemoServer } from "../__fixtures__/demo-server.ts";

test("an adapter that does not come in time ends the request, and others are answered", async () => {
  const demo = await openDemoServer({
    source: { fetchFiles: () => new Promise(() => {}) },
    limits: { adapterFetchMsMax: 20_000 },
    onFault: () => {},
  });
  try {
    const ask = (model: string, timeoutMs: number) =>
      demo.client.chat.completions.create(
        { model, messages: [{ role: "user", content: "Hi" }], max_tokens: 2 },
        { headers: { "x-switchyard-timeout-ms": String(timeoutMs) } },
      );
    const missing = `${demoModelId}@sha256-${"ab".repeat(32)}`;
    await expect(ask(missing, 50)).rejects.toMatchObject({
      ...{ status: 504, code: "deadline_exceeded" },
      message: expect.stringContaining("within the 50 ms"),
    });
    expect((await ask(demoModelId, 20_000)).usage?.completion_tokens).toBeGreaterThan(0);
    const embedding = demo.client.embeddings.create(
      { model: missing, input: "Hi" },
      { headers: { "x-switchyard-timeout-ms": "50" } },
    );
    await expect(embedding).rejects.toMatchObject({ status: 504, code: "deadline_exceeded" });
  } finally {
    await demo.close();
  }
});
