/** What a webhook is shown, and which of its answers are a verdict. */
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { guardrail } from "../../sdk/protocol/guardrails.ts";
import { askWebhook } from "./webhook.ts";

let server: Server;
let url: string;
let answer: (response: ServerResponse) => void;
let shown: { path: string; headers: object; body: string }[] = [];

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    shown.push({ path: request.url ?? "", headers: request.headers, body });
    answer(response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/look`;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
});
beforeEach(() => {
  shown = [];
});

function ask(texts: readonly string[], signal = new AbortController().signal): Promise<boolean> {
  const guard = guardrail.parse({ name: "hook", type: "webhook", url });
  if (guard.type !== "webhook") throw new Error("it is none");
  return askWebhook(guard, { texts, project: "proj_1", requestId: "req_1", signal });
}

test.each([true, false])(
  "it is shown the texts, whose they are and no credential: %s",
  async (objects) => {
    answer = (response) => response.end(JSON.stringify({ objects, reason: "further words" }));
    expect(await ask(["one", "two"])).toBe(objects);
    expect(shown).toHaveLength(1);
    expect(JSON.parse(shown[0]?.body ?? "")).toEqual({
      project: "proj_1",
      request_id: "req_1",
      texts: ["one", "two"],
    });
    expect(Object.keys(shown[0]?.headers ?? {})).not.toContain("authorization");
  },
);

test.each<[string, (response: ServerResponse) => void]>([
  ["a redirect, which is not followed", (it) => it.writeHead(302, { location: "/other" }).end()],
  ["a failure", (it) => it.writeHead(500).end('{"objects":false}')],
  ["no JSON", (it) => it.end("fine")],
  ["no verdict", (it) => it.end('{"objects":"no"}')],
  ["more than it may say", (it) => it.end(`{"objects":false,"x":"${"x".repeat(70_000)}"}`)],
  ["a connection that ends", (it) => it.destroy()],
])("no verdict is %s", async (_, send) => {
  answer = send;
  await expect(ask(["text"])).rejects.toThrow();
  expect(shown.map(({ path }) => path)).toEqual(["/look"]);
});

test("it is given up when time is over, and what is more than it may see is objected to unseen", async () => {
  answer = () => {};
  const over = new AbortController();
  const waiting = ask(["text"], over.signal);
  over.abort();
  await expect(waiting).rejects.toThrow();
  shown = [];
  expect(await ask(["x", "x".repeat(1_000_000)])).toBe(true);
  expect(shown).toEqual([]);
});
