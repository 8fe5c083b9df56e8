/** The time of day jumps by hours, there and back, while requests run and wait: nobody is expired, no duration is absurd. */
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { baseId, openTestServer, type TestServer, userSays } from "../support/adapter-server.ts";

const hourMs = 3_600_000;
let server: TestServer;
beforeAll(async () => {
  server = await openTestServer({ limits: { sequencesMax: 2, adapterSlots: 1 } });
  for (const name of ["tone-formal", "support-triage"]) {
    await server.post("/v1/load_lora_adapter", { lora_name: name, lora_path: name });
  }
});
afterAll(() => server?.close());
afterEach(() => {
  vi.useRealTimers();
});

test("requests that run, wait, and wait for a slot are answered, and metrics hold what really passed", async () => {
  const startedAt = performance.now();
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() });
  const models = [baseId, "tone-formal", "support-triage"];
  const all = Array.from({ length: 24 }, (_, index) =>
    server.post("/v1/chat/completions", {
      model: models[index % models.length],
      messages: userSays(`Question ${index}`),
      max_tokens: 16,
      ignore_eos: true,
      stream: index % 2 === 0,
    }),
  );
  let done = false;
  const finished = Promise.all(all.map(async (response) => (await response).text())).finally(() => {
    done = true;
  });
  for (let jump = 0; !done; jump++) {
    vi.setSystemTime(Date.now() + (jump % 2 === 0 ? 5 : -10) * hourMs);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await finished;
  expect((await Promise.all(all)).map(({ status }) => status)).toEqual(new Array(24).fill(200));

  const passed = (performance.now() - startedAt) / 1000;
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const sums = [...metrics.matchAll(/^(vllm:\w+_seconds)_sum\{.*\} (\S+)$/gm)];
  expect(sums.length).toBeGreaterThanOrEqual(3);
  for (const [, name, sum] of sums) {
    expect(Number(sum), name).toBeGreaterThanOrEqual(0);
    // Of 24 requests, none longer than the test.
    expect(Number(sum), name).toBeLessThan(24 * 16 * passed);
  }
  expect(metrics).toMatch(/^vllm:e2e_request_latency_seconds_count\{.*\} 24$/m);
});
