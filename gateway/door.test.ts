/** Everything about the door that is not a completion: addresses, methods, CORS, models, forwarding. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ErrorBody } from "../sdk/protocol/errors.ts";
import { startTestGateway, type TestGateway } from "../test/support/gateway.ts";
import {
  testAdapter,
  testBase,
  testKey,
  testModel,
  testProject,
  testRoute,
  testSnapshot,
} from "../test/support/policy.ts";

const acme = testProject("acme");
const rival = testProject("rival");
const policy = testSnapshot({
  projects: [acme, rival],
  keys: [
    testKey("sk-sy-key-of-acme", { projectId: acme.id }),
    testKey("sk-sy-key-of-rival", { projectId: rival.id }),
  ],
  models: [testModel("org/base-1", { base: testBase })],
  adapters: [
    testAdapter("org/base-1", "tone", acme, ["tone 1", "tone 2"]),
    testAdapter("org/base-1", "secret", rival, ["secret 1"]),
    testAdapter("org/base-1", "common", rival, ["common 1"], { shared: true }),
    testAdapter("org/base-1", "draft", acme, ["draft 1"], { aliases: { candidate: 1 } }),
  ],
  routes: [
    testRoute("auto", "org/base-1"),
    testRoute("rivals-own", "org/base-1", { projectId: rival.id }),
  ],
});
let served: TestGateway;

beforeAll(async () => {
  const echo = (name: string) => ({
    fetch: async (request: Request) => new Response(`${name} ${new URL(request.url).pathname}`),
  });
  served = await startTestGateway({
    snapshot: policy,
    evals: echo("evals"),
    reports: () => echo("reports"),
    dashboard: echo("dashboard"),
  });
});
afterAll(() => served.close());

const call = (path: string, init: RequestInit = {}, key = "sk-sy-key-of-acme") =>
  fetch(served.url + path, {
    ...init,
    headers: { authorization: `Bearer ${key}`, ...init.headers },
  });
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;

test("the models that are listed are those that the key may use", async () => {
  const ids = async (key: string) => {
    const { data } = (await (await call("/v1/models", {}, key)).json()) as {
      data: { id: string }[];
    };
    return data.map(({ id }) => id);
  };
  expect(await ids("sk-sy-key-of-acme")).toEqual([
    "org/base-1",
    "org/base-1:tone",
    "org/base-1:common",
    "auto",
  ]);
  expect(await ids("sk-sy-key-of-rival")).toEqual([
    "org/base-1",
    "org/base-1:secret",
    "org/base-1:common",
    "auto",
    "rivals-own",
  ]);
});

test("a model is found by its id, written plainly or percent-encoded", async () => {
  for (const id of [
    "org/base-1",
    "org%2Fbase-1",
    "org/base-1:tone",
    "org%2Fbase-1%3Atone%402",
    "org%2Fbase-1:tone@champion",
    "auto",
  ]) {
    const response = await call(`/v1/models/${id}`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({
      id: decodeURIComponent(id),
      object: "model",
      created: expect.any(Number),
      owned_by: expect.any(String),
    });
  }
  const tone = await (await call("/v1/models/org/base-1:tone")).json();
  expect(tone).toMatchObject({ parent: "org/base-1", root: expect.stringMatching(/^sha256-/) });
});

test("another project's adapter is as absent as one that was never made", async () => {
  const ask = async (id: string) => {
    const response = await call(`/v1/models/${encodeURIComponent(id)}`);
    const { message, code } = await errorOf(response);
    return [response.status, code, message.replaceAll(id, "ID").replace(/ Did you .*| GET .*/, "")];
  };
  expect(await ask("org/base-1:secret")).toEqual(await ask("org/base-1:zzzzzz"));
  expect(await ask("org/base-1:secret@1")).toEqual(await ask("org/base-1:zzzzzz@1"));
  expect(await ask("rivals-own")).toEqual(await ask("zzzzzz-own"));
  const near = await errorOf(await call("/v1/models/org%2Fbase-1:secre"));
  expect(near.message).not.toContain("secret");
});

test("a wrong alias is answered with those that the adapter has", async () => {
  const error = await errorOf(await call("/v1/models/org%2Fbase-1:tone@champoin"));
  expect(error.message).toContain("`org/base-1:tone@champion`");
});

test("a malformed percent sequence is an unknown model and no crash", async () => {
  expect((await call("/v1/models/%E0%A4%A")).status).toBe(404);
});

test("addresses that do not exist are told in OpenAI's envelope", async () => {
  for (const path of ["/v1/x", "/nowhere", "/v1/chat", "/v1"]) {
    const response = await call(path, { method: "POST" });
    expect([response.status, await errorOf(response)]).toEqual([
      404,
      {
        message: expect.stringContaining(`Unknown request URL: POST ${path}.`),
        type: "invalid_request_error",
        param: null,
        code: "unknown_url",
      },
    ]);
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  }
});

test("a known address with another method is 405", async () => {
  for (const [method, path] of [
    ["GET", "/v1/chat/completions"],
    ["DELETE", "/v1/models"],
    ["POST", "/v1/models/org/base-1"],
    ["PUT", "/healthz"],
  ] as const) {
    const response = await call(path, { method });
    expect([path, response.status, (await errorOf(response)).code]).toEqual([
      path,
      405,
      "method_not_allowed",
    ]);
  }
});

test("a preflight is answered with the headers that it asks for", async () => {
  const response = await fetch(`${served.url}/v1/chat/completions`, {
    method: "OPTIONS",
    headers: {
      origin: "https://app.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,content-type,x-stainless-helper-method",
    },
  });
  expect(response.status).toBe(204);
  expect(response.headers.get("access-control-allow-origin")).toBe("*");
  expect(response.headers.get("access-control-allow-methods")).toContain("POST");
  expect(response.headers.get("access-control-allow-headers")).toBe(
    "authorization,content-type,x-stainless-helper-method",
  );
  const answer = await call("/v1/models");
  expect(answer.headers.get("access-control-allow-origin")).toBe("*");
  expect(answer.headers.get("access-control-expose-headers")).toContain("x-request-id");
});

test("HEAD is answered as GET without a body", async () => {
  const response = await call("/healthz", { method: "HEAD" });
  expect([response.status, await response.text()]).toEqual([200, ""]);
});

test("health, readiness and metrics need no key", async () => {
  expect(await (await fetch(`${served.url}/healthz`)).json()).toEqual({ status: "ok" });
  expect(await (await fetch(`${served.url}/readyz`)).json()).toMatchObject({ status: "ready" });
  const metrics = await (await fetch(`${served.url}/metrics`)).text();
  expect(metrics).toMatch(/^gateway_snapshot_age_seconds [\d.e-]+$/m);
});

test("each address reaches the service that owns it", async () => {
  for (const [path, owner] of [
    ["/api/datasets", "evals"],
    ["/api/datasets/ds_1", "evals"],
    ["/api/evals/runs", "evals"],
    ["/api/reports/costs", "reports"],
    ["/api/requests", "reports"],
    ["/v1/organization/costs", "reports"],
    ["/", "dashboard"],
    ["/assets/app.js", "dashboard"],
  ] as const) {
    const response = await call(path);
    expect(await response.text()).toBe(`${owner} ${path}`);
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  }
});

test("what is forwarded keeps its query, body and key, and loses the connection's headers", async () => {
  const response = await call("/api/keys?projectId=x", {
    method: "POST",
    body: '{"name":"k"}',
    headers: { "content-type": "application/json" },
  });
  expect(await response.json()).toEqual({ path: "/api/keys?projectId=x", body: '{"name":"k"}' });
  const forwarded = served.registry.requests.at(-1);
  expect(forwarded?.headers.get("authorization")).toBe("Bearer sk-sy-key-of-acme");
  expect(forwarded?.headers.has("connection")).toBe(false);
});

test("a change made through this door holds for the next request", async () => {
  const key = testKey("sk-sy-key-made-a-moment-ago", { projectId: acme.id });
  served.registry.publish({ ...policy, version: 2, keys: [...policy.keys, key] });
  await call("/api/keys", { method: "POST", body: "{}" });
  expect((await call("/v1/models", {}, "sk-sy-key-made-a-moment-ago")).status).toBe(200);
});

test("while the registry is away its addresses answer 503 and models are still served", async () => {
  served.registry.down = true;
  const response = await call("/api/projects");
  expect([response.status, (await errorOf(response)).code]).toEqual([503, "database_unavailable"]);
  expect((await call("/v1/models")).status).toBe(200);
  served.registry.down = false;
});
