/** The process is killed at the worst moments: what was settled is in the ledger once, and all comes back. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { call, createTenant, eventually } from "../support/api.ts";
import { startServer } from "../support/server.ts";

let dataDir: string;
beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-kill-"));
});
afterAll(() => rm(dataDir, { recursive: true, force: true }));

type RequestRow = { id: string; outcome: string };

test("SIGKILL in the middle of streams loses and doubles no settled request, holds no budget, and keeps adapters", async () => {
  const first = await startServer({ dataDir });
  const tenant = await createTenant(first.url, first.adminKey, "killed", {
    budget: { limitUsd: "0.01", period: "total" },
  });

  const completed = new Set<string>();
  let stopped = false;
  const client = new OpenAI({ baseURL: `${first.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
  const streams = Array.from({ length: 6 }, async (_, index) => {
    while (!stopped) {
      try {
        const { data: stream, request_id: requestId } = await client.chat.completions
          .create({
            model: index % 2 === 0 ? "support-tiny" : "support-tiny:support-triage",
            stream: true,
            max_tokens: 48,
            messages: [
              { role: "user", content: `Triage this message: parcel ${index} never came` },
            ],
          })
          .withResponse();
        for await (const _chunk of stream);
        if (requestId) completed.add(requestId);
      } catch {
        return;
      }
    }
  });
  await eventually("some answers", async () => (completed.size >= 12 ? true : undefined));
  await first.kill();
  stopped = true;
  await Promise.all(streams);

  const second = await startServer({ dataDir });
  const rows = await eventually("the spool to be replayed", async () => {
    const found = await allRequests(second.url, second.adminKey, tenant.projectId);
    return [...completed].every((id) => found.some((row) => row.id === id)) ? found : undefined;
  });
  expect(new Set(rows.map((row) => row.id)).size).toBe(rows.length);

  // Nothing of the broken streams holds the budget: as much as is left may be spent again.
  const again = new OpenAI({ baseURL: `${second.url}/v1`, apiKey: tenant.key, maxRetries: 0 });
  const answer = await again.chat.completions.create({
    model: "support-tiny:support-triage",
    max_tokens: 48,
    messages: [
      { role: "user", content: "Triage this message: I was charged twice, please help today." },
    ],
  });
  expect(JSON.parse(answer.choices[0]?.message.content ?? "")).toHaveProperty("category");
  await second.stop();
});

async function allRequests(
  url: string,
  adminKey: string,
  projectId: string,
): Promise<RequestRow[]> {
  const rows: RequestRow[] = [];
  for (let after = ""; ; ) {
    const page = await call(
      url,
      adminKey,
      "GET",
      `/api/requests?limit=100&project=${projectId}${after === "" ? "" : `&after=${after}`}`,
    );
    const body = page.body as { data: RequestRow[]; has_more: boolean; last_id: string | null };
    rows.push(...body.data);
    if (!body.has_more || body.last_id === null) return rows;
    after = body.last_id;
  }
}
