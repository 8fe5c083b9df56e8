/** Right requests that may not be: names and keys of others, and what limits, budgets and prices refuse. */
import { beforeAll, describe, expect, test } from "vitest";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { call, createTenant, eventually, pushAdapter, type Tenant } from "../support/api.ts";
import { expectRefusal, hello, refusingServer } from "../support/refusals.ts";
import { demoModelPath } from "../support/settings.ts";

const service = refusingServer();
const { send, post, chat } = service;

describe("a model's name", () => {
  let rival: Tenant;
  beforeAll(async () => {
    rival = await createTenant(service.server.url, service.server.adminKey, "rival");
    const pushed = await pushAdapter(
      service.server.url,
      rival.key,
      { base: "support-tiny", name: "secret-tone", alias: "candidate" },
      demoModelPath("adapters/tone-formal"),
    );
    expect(pushed.status).toBe(201);
  });

  test.each<[string, string[]]>([
    ["support-tinny", ["support-tiny"]],
    ["support-tiny:", ["support-tiny"]],
    ["constructor", []],
    ["__proto__", []],
    ["a b", []],
    ["x".repeat(400), []],
  ])("that nobody has is not found: %s", async (model, nearMatches) => {
    const { details } = await expectRefusal(await chat({ ...hello, model }), {
      code: "model_not_found",
      param: "model",
      says: `\`${model.slice(0, 200)}\``,
    });
    expect(details).toEqual({ nearMatches });
  });

  test("with a slip is answered with the near matches that the caller may use, and no others", async () => {
    const model = "support-tiny:secret-tome";
    const own = await expectRefusal(await chat({ ...hello, model }, rival.key), {
      code: "model_not_found",
      param: "model",
      says: "Did you mean `support-tiny:secret-tone",
    });
    expect(own.details.nearMatches).toContain("support-tiny:secret-tone");
    const foreign = await expectRefusal(await chat({ ...hello, model }), {
      code: "model_not_found",
      param: "model",
      says: model,
    });
    expect(JSON.stringify(foreign.details)).not.toContain("secret-tone");
  });

  test("of another tenant's adapter does not exist, by any of its names", async () => {
    const listed = await call(service.server.url, rival.key, "GET", "/api/adapters");
    const [adapter] = (listed.body as { data: { id: string; versions: { digest: string }[] }[] })
      .data;
    const digest = adapter?.versions[0]?.digest;
    for (const ref of ["secret-tone@1", "secret-tone@candidate", `secret-tone@sha256-${digest}`]) {
      const { message } = await expectRefusal(
        await chat({ ...hello, model: `support-tiny:${ref}` }),
        {
          code: "model_not_found",
          param: "model",
          says: "does not exist or you do not have access",
        },
      );
      expect(message.replace(`support-tiny:${ref}`, "")).not.toContain("secret");
    }
    await expectRefusal(
      await chat({ ...hello, adapters: [{ model: `sha256-${digest}`, weight: 1 }] }),
      { code: "model_not_found", param: "adapters[0].model", says: "does not exist" },
    );
    await expectRefusal(await send(`/v1/models/support-tiny:secret-tone`), {
      code: "model_not_found",
      param: "model",
      says: "does not exist",
    });
    await expectRefusal(await send(`/api/adapters/${adapter?.id}`), {
      code: "not_found",
      says: `${adapter?.id}`,
    });
  });
});

describe("an API key", () => {
  test("that is missing is asked for, with the header that it belongs in", async () => {
    const says = "Authorization: Bearer";
    await expectRefusal(await chat(hello, ""), { code: "missing_api_key", says });
    await expectRefusal(await send("/v1/models", { key: "" }), { code: "missing_api_key", says });
    await expectRefusal(await send("/api/adapters", { key: "" }), {
      code: "missing_api_key",
      says,
    });
    await expectRefusal(await send("/api/datasets", { key: "" }), {
      code: "missing_api_key",
      says,
    });
  });

  test.each(["sk-wrong-key-of-nobody", "x", "sk-sy-admin-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])(
    "that is nobody's is refused and not repeated: %s",
    async (key) => {
      for (const response of [
        await chat(hello, key),
        await send("/api/adapters", { key }),
        await send("/api/datasets", { key }),
        await send("/api/reports/costs", { key }),
      ]) {
        const { message } = await expectRefusal(response, {
          code: "invalid_api_key",
          says: "Incorrect API key provided",
        });
        expect(message).not.toContain(` ${key}.`);
      }
    },
  );

  test("that was revoked works no more from the next request on", async () => {
    const made = await post(
      "/api/keys",
      { name: "short", projectId: service.tenant.projectId },
      service.server.adminKey,
    );
    const { id, key } = (await made.json()) as { id: string; key: string };
    expect((await chat({ ...hello, max_tokens: 1 }, key)).status).toBe(200);
    await send(`/api/keys/${id}`, { method: "DELETE", key: service.server.adminKey });
    await expectRefusal(await chat(hello, key), {
      code: "invalid_api_key",
      says: "Incorrect API key provided",
    });
    await expectRefusal(await send("/api/adapters", { key }), {
      code: "invalid_api_key",
      says: "Incorrect API key provided",
    });
  });

  test("that has expired is refused with the moment it did", async () => {
    const made = await post(
      "/api/keys",
      { name: "brief", projectId: service.tenant.projectId, expiresInSeconds: 1 },
      service.server.adminKey,
    );
    const { key, expiresAt } = (await made.json()) as { key: string; expiresAt: string };
    const refused = await eventually("the key to expire", async () => {
      const response = await chat({ ...hello, max_tokens: 1 }, key);
      return response.status === 200 ? undefined : response;
    });
    await expectRefusal(refused, { code: "invalid_api_key", says: `expired at ${expiresAt}` });
  });

  test("of an administrator runs no model, and a project's changes no policy", async () => {
    await expectRefusal(await chat(hello, service.server.adminKey), {
      code: "permission_denied",
      says: "Create a key for a project",
    });
    await expectRefusal(await post("/api/projects", { name: "mine" }), {
      code: "permission_denied",
      says: /admin/i,
    });
  });
});

describe("limits and money", () => {
  const ask = { model: "dear-model", max_tokens: 16, messages: [{ role: "user", content: "hi" }] };

  test("a budget that is spent refuses with what was spent, and lets nothing through to the provider", async () => {
    const budgeted = await createTenant(service.server.url, service.server.adminKey, "budgeted", {
      budget: { limitUsd: "0.00005", period: "total" },
    });
    let spent = 0n;
    const refused = await eventually("the budget to be spent", async () => {
      const response = await chat(ask, budgeted.key);
      if (response.status !== 200) return response;
      spent += parseUsd(response.headers.get("x-switchyard-cost-usd") ?? "not told");
      return undefined;
    });
    const asked = service.emulator.requests.length;
    const { details } = await expectRefusal(refused, {
      code: "insufficient_quota",
      says: `$${formatUsd(spent)} is spent`,
    });
    expect(spent).toBeGreaterThan(0n);
    expect(details).toMatchObject({
      scope: "project",
      id: budgeted.projectId,
      limitUsd: "0.00005",
      spentUsd: formatUsd(spent),
      reservedUsd: "0",
      resetAt: null,
    });
    expect(service.emulator.requests).toHaveLength(asked);

    await send(`/api/projects/${budgeted.projectId}`, {
      method: "PATCH",
      body: JSON.stringify({ budget: { limitUsd: "1", period: "total" } }),
      key: service.server.adminKey,
    });
    expect((await chat(ask, budgeted.key)).status).toBe(200);
  });

  test("a rate limit refuses with the time to wait and OpenAI's headers", async () => {
    const limited = await createTenant(service.server.url, service.server.adminKey, "limited", {
      limits: { requestsPerMinute: 2 },
    });
    for (const remaining of ["1", "0"]) {
      const response = await chat(ask, limited.key);
      expect(response.status).toBe(200);
      expect(response.headers.get("x-ratelimit-limit-requests")).toBe("2");
      expect(response.headers.get("x-ratelimit-remaining-requests")).toBe(remaining);
      await response.text();
    }
    const { headers, details } = await expectRefusal(await chat(ask, limited.key), {
      code: "rate_limit_exceeded",
      says: "requests per min (RPM): Limit 2, Used 2, Requested 1. Please try again in",
    });
    expect(Number(headers.get("retry-after-ms"))).toBeGreaterThan(0);
    expect(Number(headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    expect(headers.get("x-ratelimit-limit-requests")).toBe("2");
    expect(headers.get("x-ratelimit-remaining-requests")).toBe("0");
    expect(headers.get("x-ratelimit-reset-requests")).toMatch(/s$/);
    expect(details).toMatchObject({ kind: "requests", limit: 2, scope: "project" });
  });

  test("an input larger than a minute's tokens is told that waiting does not help", async () => {
    const limited = await createTenant(
      service.server.url,
      service.server.adminKey,
      "token-limited",
      {
        limits: { tokensPerMinute: 20 },
      },
    );
    const messages = [{ role: "user", content: "word ".repeat(100) }];
    await expectRefusal(await chat({ ...ask, messages }, limited.key), {
      code: "rate_limit_exceeded",
      says: "waiting does not help",
    });
  });

  test("an unknown price is unpriced and never zero, and is refused where a project wants that", async () => {
    const unpriced = { ...ask, model: "model-without-price" };
    const allowing = await createTenant(service.server.url, service.server.adminKey, "allowing");
    const response = await chat(unpriced, allowing.key);
    expect(response.status).toBe(200);
    expect(response.headers.has("x-switchyard-cost-usd")).toBe(false);
    await response.text();
    const report = await call(
      service.server.url,
      allowing.key,
      "GET",
      "/api/reports/costs?group_by=model",
    );
    expect(report.body).toMatchObject({
      data: [{ model: "model-without-price", requests: 1, unpriced_requests: 1, cost_usd: "0" }],
      totals: { requests: 1, unpriced_requests: 1 },
    });
    const requests = await call(service.server.url, allowing.key, "GET", "/api/requests");
    expect(requests.body).toMatchObject({ data: [{ pricing: "unpriced", cost_usd: null }] });

    const refusing = await createTenant(service.server.url, service.server.adminKey, "refusing", {
      unpriced: "refuse",
    });
    await expectRefusal(await chat(unpriced, refusing.key), {
      code: "no_price",
      param: "model",
      says: "model-without-price",
    });
    expect((await chat(ask, refusing.key)).status).toBe(200);
  });
});
