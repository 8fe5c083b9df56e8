/** Names, tasks and plans, decided on snapshots alone: no upstream is needed to know where a request goes. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Measurement, Route, Snapshot } from "../../sdk/protocol/catalog.ts";
import type { HubError } from "../../sdk/protocol/errors.ts";
import {
  sha,
  testAdapter,
  testBase,
  testMeasurement,
  testModel,
  testPrices,
  testProject,
  testRoute,
  testSnapshot,
} from "../../test/support/policy.ts";
import { toChatCall } from "../dialects/openai-chat/request.ts";
import { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { classify } from "./classify.ts";
import { editDistance, nearMatches } from "./near-matches.ts";
import { makePlan, type PlanInput, type UpstreamState } from "./plan.ts";
import { findTarget, resolve, resolveMix, type Scope } from "./resolve.ts";

const acme = testProject("acme");
const rival = testProject("rival");
const nowMs = Date.parse("2026-11-21T00:00:00Z");

const world: Snapshot = testSnapshot({
  projects: [acme, rival],
  models: [
    testModel("big"),
    testModel("small"),
    testModel("tiny", { base: testBase, upstream: "engine", contextLength: 100 }),
  ],
  adapters: [
    testAdapter("tiny", "tone", acme, ["tone 1", "tone 2"], {
      aliases: { champion: 2, canary: 1 },
    }),
    testAdapter("tiny", "secret", rival, ["secret 1"]),
    testAdapter("tiny", "common", rival, ["common 1"], { shared: true }),
    testAdapter("tiny", "tone", rival, ["rival tone"], { shared: true }),
  ],
  prices: [
    ...testPrices("big", { input: "0.00001", output: "0.00003" }),
    ...testPrices("small", { input: "0.000001", output: "0.000003" }),
    ...testPrices("tiny", { input: "0.0000001", output: "0.0000003" }),
  ],
});
const scopeOf = (
  snapshot: Snapshot,
  projectId: string = acme.id,
  models?: readonly string[],
): Scope => ({ snapshot: new SnapshotIndex(snapshot), projectId, models });
const scope = scopeOf(world);

function thrownBy(action: () => unknown): HubError {
  try {
    action();
  } catch (error) {
    return error as HubError;
  }
  throw new Error("nothing was thrown");
}

describe("names", () => {
  test("an adapter is found by alias, version, digest, and by its champion when nothing is said", () => {
    for (const [name, version] of [
      ["tiny:tone", 2],
      ["tiny:tone@champion", 2],
      ["tiny:tone@canary", 1],
      ["tiny:tone@1", 1],
      [`tiny:tone@sha256-${sha("tone 1")}`, 1],
    ] as const) {
      const target = findTarget(name, scope);
      expect([name, target?.name, target?.adapter?.version]).toEqual([
        name,
        `tiny:tone@${version}`,
        version,
      ]);
    }
  });

  test("a project's own adapter wins over a shared one of the same name", () => {
    expect(findTarget("tiny:tone", scope)?.adapter?.digest).toBe(sha("tone 2"));
    const third = scopeOf(world, testProject("third").id);
    expect(findTarget("tiny:tone", third)?.adapter?.digest).toBe(sha("rival tone"));
  });

  test("what another project does not share cannot be reached by name or by digest", () => {
    for (const name of [
      "tiny:secret",
      "tiny:secret@1",
      `tiny:secret@sha256-${sha("secret 1")}`,
      `tiny:tone@sha256-${sha("secret 1")}`,
    ]) {
      expect(thrownBy(() => resolve(name, scope)).code).toBe("model_not_found");
    }
    const mix = [{ model: `sha256-${sha("secret 1")}`, weight: 1 }];
    const base = findTarget("tiny", scope);
    expect(base && thrownBy(() => resolveMix(mix, base, scope)).code).toBe("model_not_found");
  });

  test("a mix is resolved with the caller's eyes, each part to its digest", () => {
    const base = findTarget("tiny", scope);
    if (!base) throw new Error("no base");
    const mix = [
      { model: "tone", weight: 0.5 },
      { model: "tiny:common@1", weight: 0.25 },
      { model: `sha256-${sha("tone 1")}`, weight: 0.25 },
    ];
    expect(resolveMix(mix, base, scope)).toEqual([
      { digest: sha("tone 2"), weight: 0.5 },
      { digest: sha("common 1"), weight: 0.25 },
      { digest: sha("tone 1"), weight: 0.25 },
    ]);
    const error = thrownBy(() => resolveMix([{ model: "tone" }], base, scope));
    expect(error.param).toBe("adapters[0].weight");
    const big = findTarget("big", scope);
    expect(big && thrownBy(() => resolveMix(mix, big, scope)).code).toBe("unsupported_parameter");
  });

  test("a model wins over a route of its name, a project's route over everybody's", () => {
    const routed = scopeOf({
      ...world,
      routes: [
        testRoute("big", "small"),
        testRoute("auto", "big"),
        testRoute("auto", "small", { projectId: acme.id }),
        testRoute("auto", "tiny", { projectId: rival.id }),
      ],
    });
    expect(resolve("big", routed)).toMatchObject({ type: "target" });
    expect(resolve("auto", routed)).toMatchObject({ route: { defaultModel: "small" } });
  });

  test("a mistyped name is answered with the nearest that the caller may see", () => {
    expect(thrownBy(() => resolve("tiny:toen", scope)).message).toContain("`tiny:tone`");
    expect(thrownBy(() => resolve("smal", scope)).details).toEqual({ nearMatches: ["small"] });
    expect(thrownBy(() => resolve("tiny:secre", scope)).message).not.toContain("secret");
    expect(thrownBy(() => resolve("tiny:tone@canray", scope)).message).toContain("@canary");
    for (const odd of ["", "a b", "../x", "x".repeat(5000), "tiny:", "\u0000"]) {
      expect(thrownBy(() => resolve(odd, scope)).code).toBe("model_not_found");
    }
  });

  test("edit distance is a metric, and stops early only when it is certain", () => {
    expect(editDistance("kitten", "sitting")).toBe(3);
    const word = fc.stringMatching(/^[ab]{0,8}$/);
    fc.assert(
      fc.property(word, word, word, (a, b, c) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
        expect(editDistance(a, c)).toBeLessThanOrEqual(editDistance(a, b) + editDistance(b, c));
        const bounded = editDistance(a, b, 2);
        expect(Math.min(bounded, 3)).toBe(Math.min(editDistance(a, b), 3));
      }),
    );
    expect(nearMatches("gpt-4", ["claude", "gpt-5", "gpt-4o"])).toEqual(["gpt-4o", "gpt-5"]);
  });
});

describe("tasks", () => {
  const route: Route = testRoute("auto", "big", {
    tasks: [
      {
        task: "triage",
        rules: [{ startsWith: "Triage:" }, { contains: "URGENT", systemContains: "support" }],
        candidates: ["small"],
        qualityFloor: 0.9,
      },
      {
        task: "tone",
        rules: [{ contains: "formal" }],
        candidates: ["small"],
        qualityFloor: 0.9,
      },
    ],
  });
  const textsOf = (messages: object[]) => () => toChatCall({ model: "m", messages }, 0).texts();
  const of = (user: string, more: Partial<Parameters<typeof classify>[0]> = {}) =>
    classify({
      header: undefined,
      metadata: undefined,
      route,
      texts: textsOf([
        { role: "system", content: "You are SUPPORT." },
        { role: "user", content: "Triage: an older question" },
        { role: "assistant", content: "formal" },
        { role: "user", content: user },
      ]),
      ...more,
    });

  test("the header wins over metadata, metadata over rules", () => {
    expect(of("Triage: x", { header: "tone", metadata: { task: "other" } })).toEqual({
      task: "tone",
      by: "header",
    });
    expect(of("Triage: x", { metadata: { task: "other" } })).toEqual({
      task: "other",
      by: "metadata",
    });
    expect(of("Triage: x")).toEqual({ task: "triage", by: "rule" });
  });

  test("rules read the last user message, and all tests of one rule must hold", () => {
    expect(of("this is urgent")).toEqual({ task: "triage", by: "rule" });
    expect(of("this is urgent", { texts: textsOf([{ role: "user", content: "urgent" }]) })).toBe(
      undefined,
    );
    expect(of("Make it FORMAL")).toEqual({ task: "tone", by: "rule" });
    expect(of("hello")).toBe(undefined);
  });

  test("text in parts is read as text", () => {
    const content = [
      { type: "image_url", image_url: { url: "https://x/y.png" } },
      { type: "text", text: "Triage: this" },
    ];
    expect(of("", { texts: textsOf([{ role: "user", content }]) })?.task).toBe("triage");
  });

  test("a header that is no task's name is refused; a client's own metadata is left alone", () => {
    expect(thrownBy(() => of("x", { header: "No Such Task!" })).param).toBe("x-switchyard-task");
    expect(of("hello", { metadata: { task: "Summarize this, please" } })).toBe(undefined);
  });
});

describe("plans", () => {
  const healthy: UpstreamState = {
    notConfigured: undefined,
    servesAdapters: false,
    retryAfterMs: undefined,
  };
  const upstreams: Record<string, UpstreamState> = {
    emulated: healthy,
    engine: { ...healthy, servesAdapters: true },
  };
  const triage = (candidates: string[], qualityFloor = 0.9): Route =>
    testRoute("auto", "big", {
      fallbacks: ["small", "big"],
      tasks: [{ task: "triage", rules: [], candidates, qualityFloor }],
    });
  const measured = (model: string, lower: number, more: Partial<Measurement> = {}) =>
    testMeasurement({ projectId: acme.id, task: "triage", model, lower, ...more });
  const tone = { adapterDigest: sha("tone 2") };

  function plan(
    snapshot: Partial<Snapshot>,
    more: Partial<PlanInput> & { name?: string; as?: string } = {},
  ) {
    const scope = scopeOf({ ...world, ...snapshot }, more.as ?? acme.id);
    const requested = more.name ?? "auto";
    return makePlan({
      requested,
      resolved: resolve(requested, scope),
      classified: { task: "triage", by: "header" },
      scope,
      upstream: (name) => upstreams[name],
      inputTokens: () => ({ tokens: 10, exact: false }),
      outputTokensMax: undefined,
      attemptsMax: 4,
      nowMs,
      ...more,
    });
  }
  const reasons = (made: ReturnType<typeof plan>) =>
    Object.fromEntries(made.decision.considered.map((it) => [it.model, it.reason ?? it.verdict]));

  test("the cheapest candidate that clears the floor comes first, then the default, then fallbacks", () => {
    const made = plan({
      routes: [triage(["big", "small", "tiny:tone"])],
      measurements: [
        measured("big", 0.99),
        measured("small", 0.95),
        measured("tiny:tone@2", 0.91, tone),
      ],
    });
    expect(made.decision.attempts).toEqual(["tiny:tone@2", "small", "big"]);
    const first = made.decision.considered[0];
    expect(first).toMatchObject({
      verdict: "planned",
      expectedCostUsd: "0.000013",
      evidence: { lower: 0.91, n: 100 },
    });
  });

  test("a candidate below the floor is left out however cheap, and the record says why", () => {
    const made = plan({
      routes: [triage(["tiny:tone", "small"])],
      measurements: [measured("tiny", 0.89, { ...tone, score: 0.95 }), measured("small", 0.9)],
    });
    expect(made.decision.attempts).toEqual(["small", "big"]);
    expect(reasons(made)).toMatchObject({ "tiny:tone@2": "below_quality_floor" });
  });

  test("a project that refuses what has no price is sent only where the price is known", () => {
    const frugal = testProject("frugal", { unpriced: "refuse" });
    const prices = world.prices.filter(({ model, meter }) => model !== "big" || meter !== "output");
    const policy = { projects: [frugal], prices };
    const made = plan({ ...policy, routes: [triage([])] }, { as: frugal.id });
    expect(reasons(made)).toEqual({ big: "no_price", small: "planned" });
    expect(made.decision.attempts).toEqual(["small"]);
    expect(plan({ ...policy, projects: [acme], routes: [triage([])] }).decision.attempts).toEqual([
      "big",
      "small",
    ]);
    const allUnpriced = { ...policy, prices: [], routes: [triage([])] };
    for (const name of ["auto", "big"]) {
      const refusal = thrownBy(() => plan(allUnpriced, { name, as: frugal.id }));
      expect([refusal.code, refusal.param]).toEqual(["no_price", "model"]);
    }
  });

  test("evidence counts for exactly the weights that it was measured on", () => {
    const made = plan({
      routes: [triage(["tiny:tone"])],
      measurements: [
        measured("tiny", 0.99, { adapterDigest: sha("tone 1") }),
        measured("tiny", 0.99),
        measured("tiny", 0.99, { ...tone, task: "other" }),
      ],
    });
    expect(reasons(made)).toMatchObject({ "tiny:tone@2": "not_measured" });
    expect(made.decision.attempts).toEqual(["big", "small"]);
  });

  test("another project's evidence counts only for the adapter that it shares", () => {
    const poisoned = plan({
      routes: [triage(["small", "tiny:tone"])],
      measurements: [
        measured("small", 0.99, { projectId: rival.id }),
        measured("tiny", 0.99, { ...tone, projectId: rival.id }),
      ],
    });
    expect(poisoned.decision.attempts).toEqual(["big", "small"]);
    const shared = plan({
      routes: [triage(["tiny:common"])],
      measurements: [
        measured("tiny", 0.95, { adapterDigest: sha("common 1"), projectId: rival.id }),
      ],
    });
    expect(shared.decision.attempts[0]).toBe("tiny:common@1");
  });

  test("the newest evidence decides, and one's own before the owner's", () => {
    const digest = { adapterDigest: sha("common 1") };
    const made = plan({
      routes: [triage(["tiny:common"])],
      measurements: [
        measured("tiny", 0.99, { ...digest, measuredAt: "2026-01-01T00:00:00Z" }),
        measured("tiny", 0.5, { ...digest, measuredAt: "2026-02-01T00:00:00Z" }),
        measured("tiny", 0.99, {
          ...digest,
          projectId: rival.id,
          measuredAt: "2026-03-01T00:00:00Z",
        }),
      ],
    });
    expect(reasons(made)).toMatchObject({ "tiny:common@1": "below_quality_floor" });
  });

  test("an unknown price is dearer than any price", () => {
    const made = plan({
      routes: [triage(["tiny:tone", "big"])],
      measurements: [measured("tiny", 0.95, tone), measured("big", 0.95)],
      prices: testPrices("big", { input: "1", output: "1" }),
    });
    expect(made.decision.attempts.slice(0, 2)).toEqual(["big", "tiny:tone@2"]);
  });

  test("an adapter's own price, and the price of today, decide", () => {
    const made = plan({
      routes: [triage(["tiny:tone", "small"])],
      measurements: [measured("tiny", 0.95, tone), measured("small", 0.95)],
      prices: [
        ...world.prices,
        ...testPrices("tiny:tone", { input: "1", output: "1" }),
        ...testPrices("small", { input: "9", output: "9" }).map((it) => ({
          ...it,
          validFrom: "2027-01-01T00:00:00Z",
        })),
      ],
    });
    expect(made.decision.attempts.slice(0, 2)).toEqual(["small", "tiny:tone@2"]);
  });

  test("hard filters keep their reason, and what is left is still tried", () => {
    const made = plan(
      {
        routes: [triage(["nothing", "tiny:secret", "tiny:tone", "elsewhere", "broken"])],
        models: [
          ...world.models,
          testModel("elsewhere", { upstream: "missing" }),
          testModel("broken", { upstream: "ill" }),
        ],
        measurements: [measured("broken", 0.99)],
      },
      {
        inputTokens: ({ model }) => ({ tokens: model.id === "tiny" ? 101 : 10, exact: false }),
        upstream: (name) => (name === "ill" ? { ...healthy, retryAfterMs: 1500 } : upstreams[name]),
      },
    );
    expect(reasons(made)).toEqual({
      nothing: "unknown",
      "tiny:tone@2": "context_too_long",
      elsewhere: "upstream_not_configured",
      broken: "upstream_unhealthy",
      big: "planned",
      small: "planned",
    });
  });

  test("another project's adapter is named by a project's own route alone, whose words it is", () => {
    const shared = triage(["tiny:secret"]);
    const named = (routes: Route[]) =>
      plan({ routes }).decision.considered.some(({ model }) => model === "tiny:secret");
    expect(named([shared])).toBe(false);
    expect(named([{ ...shared, projectId: acme.id }])).toBe(true);
  });

  test("a route with a task that nobody asked for uses its default", () => {
    const made = plan(
      { routes: [triage(["small"])], measurements: [measured("small", 0.99)] },
      { classified: undefined },
    );
    expect(made.decision.attempts).toEqual(["big", "small"]);
  });

  test("a model that the client names is tried alone, or refused with its own reason", () => {
    expect(plan({}, { name: "small" }).decision.attempts).toEqual(["small"]);
    const ill = thrownBy(() =>
      plan({}, { name: "small", upstream: () => ({ ...healthy, retryAfterMs: 1500 }) }),
    );
    expect(ill).toMatchObject({ code: "upstream_unavailable", retryAfterMs: 1500 });
    const counted = { inputTokens: () => ({ tokens: 101, exact: true }) };
    const long = thrownBy(() => plan({}, { name: "tiny", ...counted }));
    expect(long).toMatchObject({ code: "context_length_exceeded", param: "messages" });
    const guessed = { inputTokens: () => ({ tokens: 101, exact: false }) };
    expect(plan({}, { name: "tiny", ...guessed }).decision.attempts).toEqual(["tiny"]);
    const adapterless = thrownBy(() => plan({}, { name: "tiny:tone", upstream: () => healthy }));
    expect(adapterless.code).toBe("unsupported_model");
  });

  test("an adapter made for other weights than are served now is not served over them", () => {
    const moved = world.models.map((model) =>
      model.base ? { ...model, base: { ...model.base, digest: sha("new base") } } : model,
    );
    const error = thrownBy(() => plan({ models: moved }, { name: "tiny:tone" }));
    expect(error.code).toBe("unsupported_model");
  });

  test("when nothing is left, a route says what spoke against each", () => {
    const error = thrownBy(() =>
      plan(
        { routes: [testRoute("auto", "gone", { fallbacks: ["small"] })] },
        { upstream: () => ({ ...healthy, notConfigured: "no key is set" }) },
      ),
    );
    expect(error.code).toBe("upstream_unavailable");
    expect(error.message).toContain("'gone' does not exist");
    expect(error.message).toContain("no key is set");
  });

  test("no more attempts are planned than are allowed, and none twice", () => {
    const made = plan(
      {
        routes: [triage(["small", "big", "tiny:tone", "tiny:common"], 0)],
        measurements: [
          measured("small", 0.9),
          measured("big", 0.9),
          measured("tiny", 0.9, tone),
          measured("tiny", 0.9, { adapterDigest: sha("common 1") }),
        ],
      },
      { attemptsMax: 3 },
    );
    expect(made.decision.attempts).toHaveLength(3);
    expect(new Set(made.decision.attempts).size).toBe(3);
  });

  test("whatever is measured and priced, what is tried first is never dearer than another that clears the floor", () => {
    const lower = fc.double({ min: 0, max: 1, noNaN: true });
    const price = fc.integer({ min: 0, max: 1000 }).map((it) => `0.${String(it).padStart(6, "0")}`);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(lower, fc.option(price)), { minLength: 1, maxLength: 6 }),
        lower,
        (candidates, floor) => {
          const names = candidates.map((_, index) => `m${index}`);
          const made = plan(
            {
              models: [...world.models, ...names.map((name) => testModel(name))],
              routes: [triage(names, floor)],
              measurements: candidates.map(([it], index) => measured(`m${index}`, it)),
              prices: candidates.flatMap(([, usd], index) =>
                usd === null ? [] : testPrices(`m${index}`, { input: usd, output: usd }),
              ),
            },
            { attemptsMax: 16 },
          );
          const costs = new Map(
            made.decision.considered.map((it) => [
              it.model,
              Number(it.expectedCostUsd ?? "Infinity"),
            ]),
          );
          const good = names.filter((_, index) => (candidates[index]?.[0] ?? 0) >= floor);
          const planned = made.decision.attempts.filter((name) => names.includes(name));
          expect(new Set(planned)).toEqual(new Set(good));
          for (let i = 1; i < planned.length; i++) {
            expect(costs.get(planned[i - 1] ?? "") ?? 0).toBeLessThanOrEqual(
              costs.get(planned[i] ?? "") ?? 0,
            );
          }
        },
      ),
    );
  });
});
