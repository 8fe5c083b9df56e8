import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { abortableRequest, remoteFetcher } from "../../sdk/protocol/http.ts";
import { forward } from "./forward.ts";
import { readTags } from "./tags.ts";

test("tags are pairs, and anything else is refused by name", () => {
  expect(readTags(undefined)).toEqual({});
  expect(readTags("team=support, eval=run_1,empty=")).toEqual({
    team: "support",
    eval: "run_1",
    empty: "",
  });
  const tooMany = Array.from({ length: 17 }, (_, index) => `k${index}=v`).join(",");
  for (const wrong of ["team", "=x", "a b=c", `k=${"x".repeat(257)}`, tooMany]) {
    expect(() => readTags(wrong)).toThrow(
      expect.objectContaining({ code: "invalid_value", param: "x-switchyard-tags" }),
    );
  }
});

test("a tag named like a property of objects is only a tag", () => {
  expect(Object.keys(readTags("__proto__=x,constructor=y"))).toEqual(["__proto__", "constructor"]);
});

test("a service behind a URL gets the body as a stream, and its answer comes back as one", async () => {
  const server = createServer((request, response) => {
    response.writeHead(201, { "content-type": "text/plain", "x-from": "service" });
    request.pipe(response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  const chunks = ["one ", "two ", "three"];
  const body = new ReadableStream({
    pull(controller) {
      const next = chunks.shift();
      if (next === undefined) controller.close();
      else controller.enqueue(new TextEncoder().encode(next));
    },
  });
  const request = new Request("http://gateway/api/adapters?x=1", {
    method: "POST",
    body,
    duplex: "half",
  } as RequestInit);
  const service = { name: "registry", fetcher: remoteFetcher(`http://127.0.0.1:${port}/`) };
  const response = await forward(request, service, { "x-request-id": "req_1" });
  expect(response.status).toBe(201);
  expect(response.headers.get("x-from")).toBe("service");
  expect(response.headers.get("x-request-id")).toBe("req_1");
  expect(await response.text()).toBe("one two three");
  server.close();
});

test("what waits for a service can be stopped after its request was collected", async () => {
  const server = createServer();
  const asked = once(server, "request");
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  const service = remoteFetcher(`http://127.0.0.1:${port}`);
  const stop = new AbortController();
  const answer = service
    .fetch(abortableRequest("http://gateway/api/snapshot", { signal: stop.signal }))
    .then(
      () => "answered",
      (error: Error) => error.name,
    );
  await asked;
  setFlagsFromString("--expose-gc");
  // Weak references that were looked at hold until the next turn.
  await new Promise((resolve) => setImmediate(resolve));
  (runInNewContext("gc") as () => void)();
  stop.abort();
  expect(await answer).toBe("AbortError");
  server.close();
  server.closeAllConnections();
});

test("a handler hears the signal of a request that nobody holds any more", async () => {
  const stop = new AbortController();
  const heard = new Promise((resolve) => {
    const { signal } = abortableRequest("http://gateway/", { signal: stop.signal });
    signal.addEventListener("abort", resolve);
  });
  setFlagsFromString("--expose-gc");
  await new Promise((resolve) => setImmediate(resolve));
  (runInNewContext("gc") as () => void)();
  stop.abort();
  await heard;
});
