/** A thousand requests at once: as many wait as may, the others hear when to come back, and whoever does is answered. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { baseId, openTestServer, type TestServer, userSays } from "../support/adapter-server.ts";
import { eventually } from "../support/api.ts";

const crowd = 1000;
const waitingMax = 100;
let server: TestServer;
beforeAll(async () => {
  server = await openTestServer({ limits: { waitingMax, sequencesMax: 16 } });
});
afterAll(() => server?.close());

test("all who come back when they are told to are answered, and nobody is refused in vain for long", async () => {
  let busiest = 0;
  const watch = setInterval(() => {
    busiest = Math.max(busiest, server.engine.stats().waiting);
  }, 1);
  const clients = await Promise.all(Array.from({ length: crowd }, (_, index) => persist(index)));
  clearInterval(watch);
  expect(clients.map(({ status }) => status)).toEqual(new Array(crowd).fill(200));
  expect(busiest).toBeLessThanOrEqual(waitingMax);

  const refusals = clients.flatMap((client) => client.refusals);
  expect(clients.filter((client) => client.refusals.length > 0).length).toBeGreaterThan(waitingMax);
  for (const { status, code, retryAfter } of refusals) {
    expect({ status, code }).toEqual({ status: 503, code: "server_is_overloaded" });
    expect(retryAfter).toBeGreaterThanOrEqual(1);
    expect(retryAfter).toBeLessThanOrEqual(60);
  }
  // They all come back at the same time; each time another queue of them is served.
  const rounds = crowd / (waitingMax + 16);
  expect(Math.max(...clients.map((client) => client.refusals.length))).toBeLessThan(3 * rounds);
  await eventually("the engine to be idle", async () => {
    const { running, waiting, blocksUsed } = server.engine.stats();
    return running + waiting + blocksUsed === 0 ? true : undefined;
  });
});

type Refusal = { status: number; code: string; retryAfter: number };

/** Asks until it is answered, and waits as long as it is told to in between. */
async function persist(index: number): Promise<{ status: number; refusals: Refusal[] }> {
  const refusals: Refusal[] = [];
  for (;;) {
    const body = {
      model: baseId,
      messages: userSays(`Number ${index}`),
      max_tokens: 16,
      ignore_eos: true,
    };
    const response = await server.post("/v1/chat/completions", body);
    const answer = (await response.json()) as { error?: { code: string } };
    const { status } = response;
    if (status !== 503) return { status, refusals };
    const retryAfter = Number(response.headers.get("retry-after"));
    refusals.push({ status, code: answer.error?.code ?? "", retryAfter });
    await new Promise((resolve) => setTimeout(resolve, retryAfter * 1000));
  }
}
