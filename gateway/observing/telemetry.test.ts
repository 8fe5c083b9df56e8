import { afterEach, beforeEach, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { type OtlpCollector, startOtlpCollector } from "../../test/emulators/otlp.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testProject,
  testRoute,
  testSnapshot,
} from "../../test/support/policy.ts";
import { readOtlpSettings } from "./otlp-settings.ts";

const acme = testProject("acme");
const policy = testSnapshot({
  projects: [acme],
  keys: [testKey("sk-sy-key-of-acme", { projectId: acme.id })],
  models: [testModel("gpt-test"), testModel("bad", { upstreamModel: "gpt-test!status:500" })],
  routes: [testRoute("safe", "bad", { fallbacks: ["gpt-test"] })],
});
const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
let collector: OtlpCollector;
let emulator: OpenAiEmulator;
let gateway: TestGateway | undefined;

beforeEach(async () => {
  [collector, emulator] = await Promise.all([startOtlpCollector(), startOpenAiEmulator()]);
});
afterEach(async () => {
  await gateway?.close();
  gateway = undefined;
  await Promise.all([collector.close(), emulator.close()]);
});

test("a request is a trace of its own or of its client's, with the plan and every call, by gen_ai's names", async () => {
  await open({ OTEL_EXPORTER_OTLP_HEADERS: "x-tenant=one%20two", OTEL_SERVICE_NAME: "door" });
  const id = await ask(
    { model: "safe", stream: true },
    { traceparent: parent, tracestate: "vendor=1" },
  );
  await gateway?.close();
  gateway = undefined;
  expect(collector.faults).toEqual([]);
  expect(collector.headers[0]).toMatchObject({ "x-tenant": "one two" });

  const [server, plan, failed, answered] = collector.spans;
  expect(collector.spans).toHaveLength(4);
  for (const span of collector.spans) {
    expect(span.traceId).toBe("0af7651916cd43dd8448eb211c80319c");
    expect(span.resource).toEqual({ "service.name": "door" });
    expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano));
  }
  expect(server).toMatchObject({
    parentSpanId: "b7ad6b7169203331",
    name: "POST /v1/chat/completions",
    kind: 2,
    attributes: {
      "gen_ai.operation.name": "chat",
      "gen_ai.request.model": "safe",
      "gen_ai.request.stream": true,
      "gen_ai.response.model": "gpt-test",
      "gen_ai.usage.input_tokens": expect.any(Number),
      "gen_ai.usage.output_tokens": expect.any(Number),
      "gen_ai.response.time_to_first_chunk": expect.any(Number),
      "http.response.status_code": 200,
      "switchyard.request.id": id,
      "switchyard.project.id": acme.id,
      "switchyard.overhead_ms": expect.any(Number),
    },
    status: {},
  });
  for (const span of [plan, failed, answered]) expect(span?.parentSpanId).toBe(server?.spanId);
  expect(plan).toMatchObject({ name: "plan", kind: 1 });
  const failure = { name: "chat gpt-test!status:500", kind: 3, status: { code: 2 } };
  expect(failed).toMatchObject(failure);
  expect(failed?.attributes["error.type"]).toBe("upstream_error");
  expect(answered).toMatchObject({
    name: "chat gpt-test",
    kind: 3,
    attributes: { "gen_ai.provider.name": "openai", "gen_ai.response.model": "gpt-test" },
  });
  expect(new Set(collector.spans.map(({ spanId }) => spanId)).size).toBe(4);
  // Each upstream sees the call that asked it as its parent.
  expect(emulator.requests.map(({ headers }) => headers.traceparent)).toEqual(
    [...new Set([failed, answered])].map((span) => `00-${span?.traceId}-${span?.spanId}-01`),
  );
  expect(emulator.requests.at(-1)?.headers.tracestate).toBe("vendor=1");

  const labels = { "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai" };
  expect(collector.points.map(({ name }) => name)).toEqual([
    "gen_ai.client.operation.duration",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.token.usage",
    "gen_ai.client.token.usage",
  ]);
  for (const point of collector.points) {
    expect(point).toMatchObject({ attributes: labels, count: "1" });
    expect(point.bucketCounts).toHaveLength(point.explicitBounds.length + 1);
    expect(point.bucketCounts.map(Number).reduce((a, b) => a + b)).toBe(1);
  }
  const sums = collector.points.slice(2).map(({ sum }) => sum);
  const { "gen_ai.usage.input_tokens": input, "gen_ai.usage.output_tokens": output } =
    server?.attributes ?? {};
  expect(sums).toEqual([input, output]);
});

test("who is not sampled by its client stays so, here and further on, and is measured all the same", async () => {
  await open({});
  await ask({}, { traceparent: parent.replace(/01$/, "00") });
  await gateway?.close();
  gateway = undefined;
  expect(collector.spans).toEqual([]);
  expect(collector.points.length).toBeGreaterThan(0);
  expect(emulator.requests[0]?.headers.traceparent).toMatch(
    /^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00$/,
  );
});

test("without a collector a trace passes through as it came, and one is made where none came", async () => {
  await open({ OTEL_EXPORTER_OTLP_ENDPOINT: "" });
  await ask({}, { traceparent: parent });
  await ask({}, { traceparent: "00-00000000000000000000000000000000-b7ad6b7169203331-01" });
  await ask({}, {});
  const passed = emulator.requests.map(({ headers }) => headers.traceparent);
  expect(passed[0]).toBe(parent);
  for (const made of passed.slice(1)) {
    expect(made).toMatch(/^00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  }
  expect(collector.headers).toEqual([]);
});

test("a collector that refuses costs no request, and what it did not take is counted", async () => {
  collector.status = 500;
  await open({ OTEL_BSP_SCHEDULE_DELAY: "1", OTEL_METRICS_EXPORTER: "none" });
  await ask({}, {});
  await expect
    .poll(async () => (await fetch(`${gateway?.url}/metrics`)).text())
    .toContain("gateway_dropped_spans_total 3");
});

test("samplers and their shares are OpenTelemetry's, and what is wrong is named", () => {
  const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318/" };
  const read = (env: Record<string, string>) => readOtlpSettings({ ...endpoint, ...env });
  expect(readOtlpSettings({})).toBeUndefined();
  expect(read({ OTEL_SDK_DISABLED: "true" })).toBeUndefined();
  expect(read({})).toMatchObject({ tracesUrl: "http://collector:4318/v1/traces" });
  expect(read({ OTEL_TRACES_EXPORTER: "none" })?.tracesUrl).toBeUndefined();
  const low = "1".padStart(32, "0");
  const high = "f".repeat(32);
  const quarter = { OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.25" };
  const sampler = read(quarter)?.sampler;
  expect([sampler?.(low, false), sampler?.(high, true)]).toEqual([true, false]);
  const parents = read({ OTEL_TRACES_SAMPLER: "parentbased_always_off" })?.sampler;
  expect([parents?.(low, true), parents?.(low, undefined)]).toEqual([true, false]);
  expect(() => read({ OTEL_TRACES_SAMPLER: "sometimes" })).toThrow("OTEL_TRACES_SAMPLER");
});

async function open(env: Record<string, string>): Promise<void> {
  gateway = await startTestGateway({
    snapshot: policy,
    upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
    limits: { retriesMax: 0 },
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...env },
  });
}

/** @returns the request's id */
async function ask(body: object, headers: Record<string, string>): Promise<string | null> {
  const response = await fetch(`${gateway?.url}/v1/chat/completions`, {
    method: "POST",
    headers: {
      authorization: "Bearer sk-sy-key-of-acme",
      "content-type": "application/json",
      ...headers,
    },
    body: JSON.stringify({
      model: "gpt-test",
      messages: [{ role: "user", content: "Hello." }],
      ...body,
    }),
  });
  await response.text();
  expect(response.status).toBe(200);
  return response.headers.get("x-request-id");
}
