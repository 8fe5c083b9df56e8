/** Walks the door's own table: whatever asks a model has to leave a line in the ledger, and what is new has to say which it is. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../test/emulators/openai.ts";
import { type MediaEmulator, startMediaEmulator } from "../test/emulators/openai-media.ts";
import { startTestGateway, type TestGateway } from "../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../test/support/policy.ts";

const key = "sk-sy-metered-key-of-the-tests";
const project = testProject("metered");
let chats: OpenAiEmulator;
let media: MediaEmulator;
let gateway: TestGateway;
beforeAll(async () => {
  chats = await startOpenAiEmulator();
  media = await startMediaEmulator();
  gateway = await startTestGateway({
    snapshot: testSnapshot({
      projects: [project],
      keys: [testKey(key, { projectId: project.id })],
      models: [testModel("chat"), testModel("media", { upstream: "media" })],
    }),
    upstreams: [
      { name: "emulated", type: "openai", baseUrl: chats.baseUrl, api: "both" },
      { name: "media", type: "openai", baseUrl: media.baseUrl, apiKey: "sk-media" },
    ],
  });
});
afterAll(async () => {
  await gateway?.close();
  await chats?.close();
  await media?.close();
});
beforeEach(() => {
  gateway.accounts.settled.length = 0;
});

const messages = [{ role: "user", content: "Hello" }];
const contents = [{ role: "user", parts: [{ text: "Hello" }] }];
const file = { file: new Blob([Buffer.alloc(1000)]), model: "media" };
const image = { image: new Blob(["an image"]), model: "media", prompt: "a hat" };

/** For each route to a model what is sent there, by its pattern. `address` where the pattern is none. */
const asked: Record<
  string,
  { address?: string; json?: object; form?: Record<string, string | Blob> }
> = {
  "/v1/chat/completions": { json: { model: "chat", messages } },
  // The emulator of chats has neither; that they failed upstream is a line as well.
  "/v1/completions": { json: { model: "chat", prompt: "Hello" } },
  "/v1/embeddings": { json: { model: "chat", input: "Hello" } },
  "/v1/responses": { json: { model: "chat", input: "Hello" } },
  "/v1/responses/compact": { json: { model: "chat", input: "Hello" } },
  "/v1/messages": { json: { model: "chat", max_tokens: 10, messages } },
  "/model/*": {
    address: "/model/chat/converse",
    json: { messages: [{ role: "user", content: [{ text: "Hello" }] }] },
  },
  "/v1beta/models/*": { address: "/v1beta/models/chat:generateContent", json: { contents } },
  "/v1/models/*": { address: "/v1/models/chat:generateContent", json: { contents } },
  ...Object.fromEntries(
    ["v1", "v1beta1"].flatMap((version) => [
      [
        `/${version}/publishers/*`,
        {
          address: `/${version}/publishers/google/models/chat:generateContent`,
          json: { contents },
        },
      ],
      [
        `/${version}/projects/*`,
        {
          address: `/${version}/projects/p/locations/l/publishers/google/models/chat:generateContent`,
          json: { contents },
        },
      ],
    ]),
  ),
  "/v1/moderations": { json: { model: "media", input: "Hello" } },
  "/v1/images/generations": { json: { model: "media", prompt: "a cat" } },
  "/v1/images/edits": { form: image },
  "/v1/images/variations": { form: image },
  "/v1/audio/speech": { json: { model: "media", voice: "ash", input: "Hello" } },
  "/v1/audio/transcriptions": { form: file },
  "/v1/audio/translations": { form: file },
};

/** Routes that take a POST and ask no model to answer: they count, keep, explain, or hand on to other services. */
const asksNobody =
  /^\/(?:api\/|auth\/|v1\/organization\/|v1\/(?:messages\/count_tokens|responses\/input_tokens)$|v1\/conversations\b|v1\/(?:responses|chat\/completions)\/:|v1\/(?:files|uploads|batches)\b)/;

test("every route that takes a POST is known to ask a model, or not to", () => {
  const taken = gateway.gateway.app.routes.filter(({ method }) => method === "POST");
  const unknown = taken.filter(({ path }) => !asked[path] && !asksNobody.test(path));
  expect(unknown.map(({ path }) => path)).toEqual([]);
  const paths = new Set(taken.map(({ path }) => path));
  expect(Object.keys(asked).filter((path) => !paths.has(path))).toEqual([]);
});

test.each(Object.entries(asked))("%s reserves, settles and records", async (path, sent) => {
  const { address = path, json, form } = sent;
  const body = new FormData();
  for (const [name, value] of Object.entries(form ?? {})) body.append(name, value);
  const reserved = gateway.accounts.reserved.length;
  const response = await fetch(gateway.url + address, {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      ...(json && { "content-type": "application/json" }),
    },
    body: json ? JSON.stringify(json) : body,
  });
  await response.text();
  await gateway.accounts.untilSettled(1);
  expect(gateway.accounts.reserved.length).toBe(reserved + 1);
  const [line] = gateway.accounts.settled;
  expect(line).toMatchObject({
    requestedModel: json && "model" in json ? json.model : form ? "media" : "chat",
  });
  if (response.ok) expect(line?.usage).not.toEqual({});
});
