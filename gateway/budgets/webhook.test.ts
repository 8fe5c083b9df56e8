import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { BudgetAlert } from "./alerts.ts";
import { createWebhook } from "./webhook.ts";

const taken: number[] = [];
const statuses: number[] = [];
const server = createServer(async (request, response) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  response.statusCode = statuses.shift() ?? 200;
  if (response.statusCode === 200) taken.push(JSON.parse(text).id);
  response.end();
});
beforeEach(async () => {
  taken.length = 0;
  statuses.length = 0;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

test("an alert is posted until it is taken, once, and those after it wait for it", async () => {
  statuses.push(...Array.from({ length: 9 }, () => 503));
  const { post, waits, errors } = open(3_600_000);
  for (const id of [1, 2]) post({ id } as BudgetAlert);
  await vi.waitFor(() => expect(taken).toEqual([1, 2]), { timeout: 30_000 });
  expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
  expect(errors).toEqual([]);
});

test("what nobody takes in time is told and given up", async () => {
  statuses.push(500, 500, 500);
  const { post, waits, errors } = open(2_000);
  for (const id of [1, 2]) post({ id } as BudgetAlert);
  await vi.waitFor(() => expect(taken).toEqual([2]), { timeout: 30_000 });
  expect(waits).toEqual([500, 1_000]);
  expect(String(errors[0])).toContain("answered 500");
});

test("what is refused for what it is holds up nobody behind it", async () => {
  statuses.push(413);
  const { post, waits, errors } = open(3_600_000);
  for (const id of [1, 2]) post({ id } as BudgetAlert);
  await vi.waitFor(() => expect(taken).toEqual([2]), { timeout: 30_000 });
  expect(waits).toEqual([]);
  expect(String(errors[0])).toContain("answered 413");
});

function open(retryForMs: number) {
  const { port } = server.address() as AddressInfo;
  const [waits, errors] = [[] as number[], [] as unknown[]];
  const post = createWebhook({
    url: `http://127.0.0.1:${port}/`,
    timeoutMs: 10_000,
    retryForMs,
    waitingMax: 10,
    onError: (error) => errors.push(error),
    async pause(ms) {
      waits.push(ms);
    },
  });
  return { post, waits, errors };
}
