/** Streams whose budget runs out, in every dialect, passed and translated: over real budgets in the real gateway. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Price } from "../../sdk/protocol/catalog.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { startAnthropicEmulator } from "../../test/emulators/anthropic.ts";
import { startBedrockEmulator } from "../../test/emulators/bedrock.ts";
import { startGeminiEmulator } from "../../test/emulators/gemini.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testSnapshot,
} from "../../test/support/policy.ts";
import type { AnswerStream } from "../attempts/answer-stream.ts";
import { createKnownBudgets } from "../budgets/known-budgets.ts";
import { createMemoryBudgets } from "../budgets/memory-budgets.ts";
import { defaultLimits, type GatewayLimits } from "../config.ts";
import { createMemoryLimiter } from "../limits/memory-limiter.ts";
import { createAccounts } from "../metering/accounts.ts";
import { defaultMeteringLimits } from "../metering/config.ts";
import type { Reservation, Settlement, StreamUse } from "../metering/types.ts";
import { RelayedSoFar } from "../providers/format.ts";
import { countTokens } from "../tokens/count.ts";
import { meterOf } from "./stream-meter.ts";

/** Four hundred tokens, as they are guessed. */
const answer = "once upon a time, ".repeat(89);
const upstreamsByFormat = ["openai", "anthropic", "gemini", "bedrock"] as const;
const modelOf = (upstream: string) => `model-of-${upstream}`;
const projects = {
  /** Room for about two hundred tokens. */
  small: { limitUsd: "0.0004", period: "total" as const },
  large: { limitUsd: "1", period: "total" as const },
};

let openai: OpenAiEmulator;
const emulators: { close(): Promise<void> }[] = [];
let upstreams: Parameters<typeof startTestGateway>[0]["upstreams"];
beforeAll(async () => {
  openai = await startOpenAiEmulator({ answer: () => answer, deltaDelayMs: 1 });
  const anthropic = await startAnthropicEmulator({
    answer: ({ model }) =>
      model.includes("reads-much")
        ? { content: [{ type: "text", text: answer }], usage: { input_tokens: 1_000_000 } }
        : answer,
    eventDelayMs: 1,
  });
  const gemini = await startGeminiEmulator({ answer: () => answer, deltaDelayMs: 1 });
  const bedrock = await startBedrockEmulator({ answer: () => answer });
  emulators.push(openai, anthropic, gemini, bedrock);
  upstreams = [
    { name: "openai", type: "openai", baseUrl: openai.baseUrl, apiKey: "k" },
    { name: "anthropic", type: "anthropic", baseUrl: anthropic.baseUrl, apiKey: "k" },
    { name: "gemini", type: "gemini", baseUrl: gemini.baseUrl, apiKey: "k" },
    {
      name: "bedrock",
      type: "bedrock",
      region: "us-east-1",
      baseUrl: bedrock.baseUrl,
      apiKey: "k",
    },
  ];
});
afterAll(async () => {
  for (const emulator of emulators) await emulator.close();
});

const user = [{ role: "user", content: "Tell me a story." }];
type Made = { path: string; body: object };
const dialects: Record<string, { upstream: string; ask: (model: string) => Made }> = {
  chat: {
    upstream: "openai",
    ask: (model) => ({
      path: "/v1/chat/completions",
      body: { model, messages: user, stream: true },
    }),
  },
  completions: {
    upstream: "openai",
    ask: (model) => ({ path: "/v1/completions", body: { model, prompt: "Once", stream: true } }),
  },
  responses: {
    upstream: "openai",
    ask: (model) => ({ path: "/v1/responses", body: { model, input: "Story.", stream: true } }),
  },
  messages: {
    upstream: "anthropic",
    ask: (model) => ({
      path: "/v1/messages",
      body: { model, max_tokens: 40, messages: user, stream: true },
    }),
  },
  gemini: {
    upstream: "gemini",
    ask: (model) => ({
      path: `/v1beta/models/${model}:streamGenerateContent?alt=sse`,
      body: { contents: [{ role: "user", parts: [{ text: "Story." }] }] },
    }),
  },
  bedrock: {
    upstream: "bedrock",
    ask: (model) => ({
      path: `/model/${model}/converse-stream`,
      body: { messages: [{ role: "user", content: [{ text: "Story." }] }] },
    }),
  },
};
const cases = Object.entries(dialects).flatMap(([name, { upstream }]) =>
  name === "completions"
    ? [[name, upstream] as const]
    : [...new Set([upstream, "openai", "anthropic"])].map((one) => [name, one] as const),
);

test.each(cases)(
  "%s from %s ends with an error when no budget has more, and what was said is paid",
  async (dialect, upstream) => {
    await withGateway({}, async ({ ask, spent, settled }) => {
      const raw = await ask("small", dialect, modelOf(upstream));
      expect(raw.includes("The budget of project")).toBe(true);
      expect(
        /insufficient_quota|RESOURCE_EXHAUSTED|billing_error|xception/.exec(raw)?.[0],
      ).toBeDefined();
      expect(raw.includes("once")).toBe(true);
      expect(settled()).toMatchObject({
        outcome: "refused",
        errorCode: "insufficient_quota",
        estimated: true,
        stream: true,
      });
      const limit = parseUsd(projects.small.limitUsd);
      const cost = await spent("small");
      expect([cost, cost <= limit, cost > limit / 2n]).toEqual([cost, true, true]);
      // As much as was said is counted, and no more.
      const { output = 0 } = settled()?.usage ?? {};
      expect(output).toBeGreaterThan(100);
      expect(output).toBeLessThan(200);
    });
  },
);

test.each(cases)("%s from %s goes on where a budget has more", async (dialect, upstream) => {
  await withGateway({}, async ({ ask, spent, settled }) => {
    const raw = await ask("large", dialect, modelOf(upstream));
    expect(raw).not.toContain("The budget of project");
    expect(settled()).toMatchObject({ outcome: "ok", estimated: false });
    const { input = 0, output = 0 } = settled()?.usage ?? {};
    expect(await spent("large")).toBe(BigInt(input) * 1_000n + BigInt(output) * 2_000_000n);
  });
});

test("an upstream that heeds no bound is ended, by what it said for certain", async () => {
  await withGateway({}, async ({ ask, settled }) => {
    const raw = await ask("small", "chat", modelOf("openai"), { max_tokens: 40 });
    expect(raw).toContain('"code":"insufficient_quota"');
    expect(settled()?.usage?.output).toBeLessThan(400);
    expect(openai.requests.at(-1)?.body).toMatchObject({ max_tokens: 40 });
  });
});

test("an input that is told to be more than was reserved ends what nobody can pay", async () => {
  await withGateway({}, async ({ ask, settled }) => {
    const raw = await ask("small", "messages", "reads-much");
    expect(raw).toContain("The budget of project");
    expect(raw).not.toContain("once");
    expect(settled()?.usage?.input).toBe(1_000_000);
  });
});

test("with an overrun a stream goes on so far beyond its budget, and nobody is asked for more again", async () => {
  await withGateway({ streamOverrunTokens: 10_000 }, async ({ ask, spent, settled, store }) => {
    const raw = await ask("small", "chat", modelOf("openai"));
    expect(raw).toContain("[DONE]");
    expect(settled()).toMatchObject({ outcome: "ok" });
    expect(await spent("small")).toBeGreaterThan(0n);
    // Whole steps near the end, and then a part of one.
    expect(store.refusals).toBeLessThan(10);
  });
  await withGateway({ streamOverrunTokens: 40 }, async ({ ask, settled, store }) => {
    const raw = await ask("small", "chat", modelOf("openai"));
    expect(raw).toContain('"code":"insufficient_quota"');
    expect(settled()).toMatchObject({ outcome: "refused" });
    expect(settled()?.usage?.output).toBeGreaterThan(200);
    expect(settled()?.usage?.output).toBeLessThan(300);
    expect(store.refusals).toBeLessThan(10);
  });
});

test("a store of budgets that fails under a stream ends it, and its upstream is not blamed", async () => {
  await withGateway({}, async ({ ask, settled, store }) => {
    store.failure = new Error("no room");
    const raw = await ask("large", "chat", modelOf("openai"));
    expect(raw).toContain('"code":"internal_error"');
    expect(raw).not.toContain("no room");
    expect(settled()).toMatchObject({ outcome: "refused", errorCode: "internal_error" });
  });
});

test("text in characters of three tokens each is counted before it is more than was reserved", () => {
  const character = "ꙮ";
  const tokenizer = "cl100k_base";
  expect(countTokens(character, tokenizer)).toBe(3);
  let text = "";
  const reader = { relayed: new RelayedSoFar(() => text) } as unknown as AnswerStream;
  const reserved = 200;
  let asked = 0;
  const meter = meterOf(
    {
      allowance: () => ({
        left: ({ outputTokens }: StreamUse) => reserved - outputTokens,
        extend: async ({ outputTokens }: StreamUse) => {
          asked = outputTokens;
        },
      }),
    } as unknown as Reservation,
    {
      call: { bodyBytes: 10 ** 9 },
      target: { model: { id: "m", tokenizer } },
      limits: defaultLimits,
    } as unknown as Parameters<typeof meterOf>[1],
  );
  expect(meter?.check(reader)).toBeUndefined();
  text = character.repeat(100);
  void meter?.check(reader);
  expect(asked).toBeGreaterThan(300);
});

type Served = {
  /** All bytes of the answer. */
  ask(
    project: keyof typeof projects,
    dialect: string,
    model: string,
    more?: object,
  ): Promise<string>;
  spent(project: keyof typeof projects): Promise<bigint>;
  settled(): Settlement | undefined;
  store: TestStore;
};
/** The budgets, as a stream's further words meet them. */
type TestStore = { refusals: number; failure?: Error };

async function withGateway(
  limits: Partial<GatewayLimits>,
  use: (served: Served) => Promise<void>,
): Promise<void> {
  const all = Object.entries(projects).map(([name, budget]) => testProject(name, { budget }));
  const models = [
    ...upstreamsByFormat.map((name) => [modelOf(name), name]),
    ["reads-much", "anthropic"],
  ];
  const prices = models.flatMap(([id = ""]) =>
    testPrices(id, { input: "0.000000001", output: "0.000002" }),
  );
  const served = await startTestGateway({
    snapshot: testSnapshot({
      projects: all,
      keys: all.map(({ id, name }) => testKey(keyOf(name), { projectId: id })),
      models: models.map(([id = "", upstream = ""]) =>
        // Bedrock's emulator says everything at once, unless its frames are cut.
        testModel(id, { upstream, upstreamModel: upstream === "bedrock" ? `${id}!split` : id }),
      ),
      prices,
    }),
    upstreams: upstreams ?? [],
    limits: { outputTokensDefault: 40, streamStepTokens: 32, ...limits },
  });
  const { spent, settled, store } = accountFor(served, prices);
  try {
    await use({
      async ask(project, dialect, model, more = {}) {
        const made = (dialects[dialect] as (typeof dialects)[string]).ask(model);
        const response = await fetch(served.url + made.path, {
          method: "POST",
          headers: {
            authorization: `Bearer ${keyOf(project)}`,
            "content-type": "application/json",
          },
          body: JSON.stringify({ ...made.body, ...more }),
        });
        expect(response.status).toBe(200);
        return response.text().catch((error: unknown) => String(error));
      },
      spent: (name) => spent(all.find((project) => project.name === name)?.id ?? ""),
      settled,
      store,
    });
  } finally {
    await served.close();
  }
}

/** Real accounts over budgets in memory, in place of those that stand in. */
function accountFor(served: TestGateway, prices: readonly Price[]) {
  const store = createMemoryBudgets({ now: Date.now, leaseTtlMs: 60_000, countersMax: 100 });
  const seen = new Map<string, Parameters<typeof store.read>[0][number]>();
  const settled: Settlement[] = [];
  const seenAs: TestStore = { refusals: 0 };
  const real = createAccounts({
    limiter: createMemoryLimiter({ now: Date.now, placeTtlMs: 60_000, bucketsMax: 100 }),
    budgets: createKnownBudgets({
      store: {
        ...store,
        async reserve(request) {
          if (seenAs.failure && request.requestId.includes("+")) throw seenAs.failure;
          return store.reserve(request).catch((refusal: unknown) => {
            seenAs.refusals++;
            throw refusal;
          });
        },
      },
      now: Date.now,
      async load(counters) {
        for (const counter of counters) seen.set(counter.scope.id, counter);
        return { spending: counters.map((counter) => ({ counter, spent: 0n })), isWhole: true };
      },
      refreshEveryMs: 60_000,
      retryMs: 1_000,
      countersMax: 100,
      onRise() {},
      onError(error) {
        throw error;
      },
    }),
    organization: () => ({ budgets: [] }),
    prices: (model, meter) => prices.find((it) => it.model === model && it.meter === meter),
    spool: { async append() {}, ensureWritable() {} },
    now: Date.now,
    limits: defaultMeteringLimits,
  });
  served.accounts.reserve = async (request) => {
    const reservation = await real.reserve(request);
    return {
      ...reservation,
      settle(settlement) {
        settled.push(settlement);
        return reservation.settle(settlement);
      },
    };
  };
  return {
    store: seenAs,
    settled: () => settled.at(-1),
    async spent(projectId: string): Promise<bigint> {
      const counter = seen.get(projectId);
      const [figures] = counter ? await store.read([counter]) : [];
      expect(formatUsd(figures?.held ?? -1n)).toBe("0");
      return figures?.spent ?? -1n;
    },
  };
}

const keyOf = (project: string) => `sk-sy-key-of-the-project-${project}`;
