/** Adapters through the gateway: named by digest, checked by digest, in this process and behind a URL. */

import { type ServerType, serve } from "@hono/node-server";
import { afterEach, describe, expect, test } from "vitest";
import { type ErrorBody, HubError, toErrorResponse } from "../../../sdk/protocol/errors.ts";
import type { Fetcher } from "../../../sdk/protocol/http.ts";
import { startOpenAiEmulator } from "../../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../../test/support/gateway.ts";
import {
  sha,
  testAdapter,
  testBase,
  testKey,
  testModel,
  testProject,
  testRoute,
  testSnapshot,
} from "../../../test/support/policy.ts";

const acme = testProject("acme");
const rival = testProject("rival");
const apiKey = "sk-sy-key-of-the-acme-project";
const policy = (upstream: string) =>
  testSnapshot({
    projects: [acme, rival],
    keys: [testKey(apiKey, { projectId: acme.id })],
    models: [testModel("tiny", { base: testBase, upstream, upstreamModel: "tiny-int8" })],
    adapters: [
      testAdapter("tiny", "tone", acme, ["tone 1", "tone 2"]),
      testAdapter("tiny", "secret", rival, ["secret"]),
    ],
    routes: [testRoute("auto", "tiny:tone", { fallbacks: ["tiny"] })],
  });

type Seen = { headers: Headers; body: Record<string, unknown>; signal: AbortSignal };

/** Stands in for an adapter-server: tells what it was asked, and which adapter it says it used. */
function engine(
  applied: (model: string) => string | undefined,
): Fetcher & { seen: Seen[]; streamed: number; cancelled: number } {
  const server = {
    seen: [] as Seen[],
    streamed: 0,
    cancelled: 0,
    async fetch(request: Request): Promise<Response> {
      const body = (await request.json()) as Seen["body"];
      server.seen.push({ headers: request.headers, body, signal: request.signal });
      const digest = applied(String(body.model));
      const headers = digest === undefined ? {} : { "x-switchyard-adapter": digest };
      if (body.stream !== true) {
        const message = { role: "assistant", content: "ok", refusal: null };
        const choices = [{ index: 0, message, logprobs: null, finish_reason: "stop" }];
        const usage = { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4 };
        return Response.json({ object: "chat.completion", choices, usage }, { headers });
      }
      const frame = `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "ok " } }] })}\n\n`;
      const stream = new ReadableStream<Uint8Array>({
        async pull(controller) {
          await new Promise((done) => setTimeout(done, 5));
          server.streamed++;
          controller.enqueue(new TextEncoder().encode(frame));
        },
        cancel() {
          server.cancelled++;
        },
      });
      return new Response(stream, { headers: { ...headers, "content-type": "text/event-stream" } });
    },
  };
  return server;
}
const honest = (model: string) => /@sha256-([0-9a-f]{64})$/.exec(model)?.[1];

let served: TestGateway | undefined;
afterEach(async () => {
  await served?.close();
});

const ask = (model: string, more: Record<string, unknown> = {}, signal?: AbortSignal) =>
  fetch(`${served?.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "hi" }], ...more }),
    ...(signal && { signal }),
  });
const errorOf = async (response: Response) => ((await response.json()) as ErrorBody).error;

async function withHouse() {
  const house = await startOpenAiEmulator();
  const own = policy("embedded");
  return {
    house,
    snapshot: {
      ...own,
      models: [...own.models, testModel("house", { upstream: "house" })],
      routes: [testRoute("auto-house", "tiny", { fallbacks: ["house"] })],
    },
  };
}

describe("in this process", () => {
  test("metrics, which need no key, name bases and no project's adapters", async () => {
    served = await startTestGateway({ snapshot: policy("embedded"), embedded: engine(honest) });
    expect((await ask("tiny:tone@1")).status).toBe(200);
    const metrics = await (await fetch(`${served.url}/metrics`)).text();
    expect(metrics).toContain('gateway_requests_total{model="tiny",outcome="ok"');
    expect(metrics).not.toContain("tone");
  });

  test("an engine whose queue is full is asked again by the next request, and a fallback answers this one", async () => {
    let isFull = true;
    const well = engine(honest);
    const full: Fetcher = {
      fetch: async (request) =>
        isFull
          ? toErrorResponse(new HubError("server_is_overloaded", "Full.", { retryAfterMs: 60_000 }))
          : well.fetch(request),
    };
    const { snapshot, house } = await withHouse();
    served = await startTestGateway({
      snapshot,
      embedded: full,
      upstreams: [{ name: "house", type: "openai", baseUrl: house.baseUrl }],
      limits: { breakerFailures: 2 },
    });
    for (let i = 0; i < 4; i++) {
      const refused = await ask("tiny");
      expect(refused.status).toBe(503);
      expect(refused.headers.get("retry-after")).toBe("60");
      expect((await errorOf(refused)).code).toBe("server_is_overloaded");
      expect((await ask("auto-house")).headers.get("x-switchyard-model")).toBe("house");
    }
    isFull = false;
    expect((await ask("tiny")).status).toBe(200);
    await house.close();
  });

  test("an adapter is asked for by its digest, with the operator key and the tenant", async () => {
    const server = engine(honest);
    served = await startTestGateway({ snapshot: policy("embedded"), embedded: server });
    const response = await ask("tiny:tone@1", {
      ...{ store: true, metadata: { a: "b" }, priority: -10, top_k: 3 },
    });
    expect(response.status).toBe(200);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "x-switchyard-model": "tiny:tone@1",
      "x-switchyard-adapter": sha("tone 1"),
      "x-switchyard-dropped": "store, metadata, priority",
    });
    const { headers, body } = server.seen[0] ?? ({} as Seen);
    expect(headers.get("authorization")).toBe("Bearer operator-key-of-the-tests");
    expect(headers.get("x-switchyard-tenant")).toBe(acme.id);
    expect(body).toMatchObject({ model: `tiny-int8@sha256-${sha("tone 1")}`, top_k: 3 });
    expect(body).not.toHaveProperty("store");
    // With our key each client's would count.
    expect(body).not.toHaveProperty("priority");
    expect(served.accounts.settled[0]).toMatchObject({
      answered: {
        model: "tiny",
        adapter: "tone",
        adapterVersion: 1,
        adapterDigest: sha("tone 1"),
        upstream: "embedded",
      },
    });
  });

  test("an answer by other weights than asked for is no answer, and the route goes on", async () => {
    for (const wrong of [undefined, sha("something else")]) {
      const server = engine((model) => (honest(model) === undefined ? undefined : wrong));
      served = await startTestGateway({ snapshot: policy("embedded"), embedded: server });
      const response = await ask("tiny:tone");
      expect([response.status, (await errorOf(response)).code]).toEqual([
        502,
        "adapter_not_applied",
      ]);
      const routed = await ask("auto");
      expect(routed.headers.get("x-switchyard-model")).toBe("tiny");
      await served.close();
    }
  });

  test("a base model that was answered with somebody's adapter is refused too", async () => {
    const server = engine(() => sha("tone 1"));
    served = await startTestGateway({ snapshot: policy("embedded"), embedded: server });
    expect((await errorOf(await ask("tiny"))).code).toBe("adapter_not_applied");
  });

  test("a mix goes out as digests that the caller may use, and names of others' stay inside", async () => {
    const server = engine((model) => (model === "tiny-int8" ? sha("the mix") : undefined));
    served = await startTestGateway({ snapshot: policy("embedded"), embedded: server });
    const mixed = await ask("tiny", { adapters: [{ model: "tone", weight: 0.5 }] });
    expect(mixed.headers.get("x-switchyard-adapter")).toBe(sha("the mix"));
    expect(server.seen[0]?.body.adapters).toEqual([
      { model: `sha256-${sha("tone 2")}`, weight: 0.5 },
    ]);
    for (const model of ["secret", `sha256-${sha("secret")}`, "tiny:secret@1"]) {
      const response = await ask("tiny", { adapters: [{ model, weight: 1 }] });
      expect([response.status, (await errorOf(response)).param]).toEqual([
        404,
        "adapters[0].model",
      ]);
    }
    expect((await errorOf(await ask("auto", { adapters: [] }))).code).toBe("unsupported_parameter");
    expect(server.seen).toHaveLength(1);
  });

  test("a client that leaves a stream aborts the engine's request and its stream", async () => {
    const server = engine(honest);
    served = await startTestGateway({ snapshot: policy("embedded"), embedded: server });
    const client = new AbortController();
    const response = await ask("tiny:tone", { stream: true }, client.signal);
    await response.body?.getReader().read();
    client.abort();
    await served.accounts.untilSettled(1);
    expect(server.seen[0]?.signal.aborted).toBe(true);
    expect(server.cancelled).toBe(1);
    expect(served.accounts.settled[0]).toMatchObject({ outcome: "client_gone", estimated: true });
  });
});

test("behind a URL the same requests go over a socket", async () => {
  const server = engine(honest);
  const { fetch } = server;
  const { listening, port } = await new Promise<{ listening: ServerType; port: number }>((done) => {
    const listening = serve({ fetch, port: 0, hostname: "127.0.0.1" }, ({ port }) =>
      done({ listening, port }),
    );
  });
  served = await startTestGateway({
    snapshot: policy("gpu-1"),
    upstreams: [{ name: "gpu-1", type: "adapter-server", baseUrl: `http://127.0.0.1:${port}/v1` }],
  });
  const response = await ask("tiny:tone");
  expect(response.headers.get("x-switchyard-adapter")).toBe(sha("tone 2"));
  expect(server.seen[0]?.headers.get("authorization")).toBe("Bearer operator-key-of-the-tests");
  listening.close();
});

test("an upstream that only speaks OpenAI serves no adapters", async () => {
  served = await startTestGateway({
    snapshot: policy("plain"),
    upstreams: [{ name: "plain", type: "openai", baseUrl: "http://127.0.0.1:9/v1" }],
  });
  expect((await errorOf(await ask("tiny:tone"))).code).toBe("unsupported_model");
});
