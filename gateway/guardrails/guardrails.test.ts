/** Guardrails in the real gateway, in every dialect, whole and streamed a character at a time. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { guardrails as schema } from "../../sdk/protocol/guardrails.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../test/emulators/openai.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import {
  testKey,
  testModel,
  testPrices,
  testProject,
  testRoute,
  testSnapshot,
} from "../../test/support/policy.ts";

/** A key of each project; the project's guardrails follow from its name. */
const projects = {
  pii: [{ name: "pii", type: "pii", on: ["request"] }],
  words: [{ name: "words", type: "deny", words: ["forbidden thing"] }],
  masked: [{ name: "masked", type: "deny", words: ["forbidden thing"], action: "redact" }],
  flagged: [{ name: "flagged", type: "regex", patterns: ["forb[a-z]+"], action: "flag" }],
  own: [{ name: "home", type: "secrets", action: "own", on: ["request"] }],
  small: [{ name: "small", type: "size", charsMax: 60 }],
  labels: [{ name: "labels", type: "allow", patterns: ["yes|no"], on: ["answer"] }],
  ordered: [
    { name: "first", type: "pii", kinds: ["email"], on: ["request"] },
    { name: "second", type: "regex", patterns: ["@"], on: ["request"] },
  ],
  judged: [
    { name: "judge", type: "model", model: "judge", instructions: "No bombs.", on: ["request"] },
  ],
  hooked: [
    {
      name: "hook",
      type: "webhook",
      url: "http://127.0.0.1:1/",
      on: ["request"],
      timeoutMs: 20000,
    },
  ],
  open: [
    {
      name: "hook",
      type: "webhook",
      url: "http://127.0.0.1:1/",
      on: ["request"],
      onFailure: "pass",
    },
  ],
  both: [{ name: "hook", type: "webhook", url: "", timeoutMs: 20000 }],
} as const;
type Name = keyof typeof projects;
const keyOf = (name: Name) => `sk-sy-key-of-the-project-${name}`;

let said = "";
/** What the upstream was asked, as it came. */
let asked: string[] = [];
let upstream: Server;
let hook: Server;
let hookAnswers: (texts: string[]) => unknown = () => ({ objects: false });
let emulator: OpenAiEmulator;
let served: TestGateway;

beforeAll(async () => {
  upstream = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    asked.push(body);
    const isJudge = body.includes('"judge"');
    const answer = isJudge
      ? JSON.stringify({ objects: body.includes("bomb for") })
      : said.replace("ECHO", lastText(body));
    const { stream } = JSON.parse(body) as { stream?: boolean };
    const isText = request.url?.endsWith("/completions") && !request.url.includes("chat");
    const head = { id: "c-1", object: "chat.completion", created: 1, model: "m" };
    const usage = { prompt_tokens: 5, completion_tokens: 7, total_tokens: 12 };
    if (!stream) {
      const choice = isText
        ? { text: answer }
        : { message: { role: "assistant", content: answer } };
      response.setHeader("content-type", "application/json");
      response.end(
        JSON.stringify({
          ...head,
          choices: [{ index: 0, ...choice, finish_reason: "stop" }],
          usage,
        }),
      );
      return;
    }
    response.setHeader("content-type", "text/event-stream");
    const tell = (choices: object[], more = {}) =>
      response.write(`data: ${JSON.stringify({ ...head, choices, ...more })}\n\n`);
    for (const char of answer) {
      tell([
        {
          index: 0,
          ...(isText ? { text: char } : { delta: { content: char } }),
          finish_reason: null,
        },
      ]);
    }
    tell([{ index: 0, ...(isText ? { text: "" } : { delta: {} }), finish_reason: "stop" }]);
    tell([], { usage });
    response.end("data: [DONE]\n\n");
  });
  hook = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    response.end(JSON.stringify(hookAnswers((JSON.parse(body) as { texts: string[] }).texts)));
  });
  await Promise.all(
    [upstream, hook].map((it) => new Promise<void>((done) => it.listen(0, "127.0.0.1", done))),
  );
  const urlOf = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  emulator = await startOpenAiEmulator({ answer: () => "from home" });
  const all = Object.entries(projects).map(([name, guards]) =>
    testProject(name, {
      guardrails: schema.parse(
        guards.map((guard) =>
          "url" in guard && guard.url === "" ? { ...guard, url: urlOf(hook) } : guard,
        ),
      ),
    }),
  );
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: all,
      keys: all.map((project) => testKey(keyOf(project.name as Name), { projectId: project.id })),
      models: [
        testModel("m", { upstream: "chars" }),
        testModel("judge", { upstream: "chars", upstreamModel: "judge" }),
        testModel("home", { upstream: "home" }),
      ],
      routes: [testRoute("either", "m", { fallbacks: ["home"] })],
      prices: testPrices("m", { input: "0.000001", output: "0.000002" }),
    }),
    upstreams: [
      { name: "chars", type: "openai", baseUrl: `${urlOf(upstream)}/v1`, apiKey: "k" },
      { name: "home", type: "openai", baseUrl: emulator.baseUrl, apiKey: "k", own: true },
    ],
    limits: { breakerFailures: 1000, firstByteTimeoutMs: 30_000 },
  });
});
afterAll(async () => {
  await served.close();
  await emulator.close();
  for (const server of [upstream, hook]) {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});
beforeEach(() => {
  asked = [];
});

/** The last text of a request, in whatever shape the upstream was asked. */
function lastText(body: string): string {
  const { messages, prompt } = JSON.parse(body) as {
    messages?: { content: unknown }[];
    prompt?: string;
  };
  const content = messages?.at(-1)?.content ?? prompt;
  return typeof content === "string" ? content : ((content as { text: string }[])[0]?.text ?? "");
}

const user = (text: string) => [{ role: "user", content: text }];
const dialects: Record<string, (text: string, stream: boolean) => { path: string; body: object }> =
  {
    chat: (text, stream) => ({
      path: "/v1/chat/completions",
      body: { model: "m", messages: user(text), stream },
    }),
    responses: (text, stream) => ({
      path: "/v1/responses",
      body: { model: "m", input: text, stream },
    }),
    messages: (text, stream) => ({
      path: "/v1/messages",
      body: { model: "m", max_tokens: 99, messages: user(text), stream },
    }),
    gemini: (text, stream) => ({
      path: `/v1beta/models/m:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      body: { contents: [{ role: "user", parts: [{ text }] }] },
    }),
    bedrock: (text, stream) => ({
      path: `/model/m/converse${stream ? "-stream" : ""}`,
      body: { messages: [{ role: "user", content: [{ text }] }] },
    }),
    completions: (text, stream) => ({
      path: "/v1/completions",
      body: { model: "m", prompt: text, stream },
    }),
  };
const both = Object.keys(dialects).flatMap((dialect) => [
  [dialect, false] as const,
  [dialect, true] as const,
]);

async function ask(name: Name, dialect: string, stream: boolean, text: string, more: object = {}) {
  const made = dialects[dialect]?.(text, stream);
  const response = await fetch(`${served.url}${made?.path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${keyOf(name)}`, "content-type": "application/json" },
    body: JSON.stringify({ ...made?.body, ...more }),
  });
  const raw = await response.text();
  return {
    status: response.status,
    raw,
    said: textIn(raw),
    guards: response.headers.get("x-switchyard-guardrails"),
  };
}

/** All that is said in a stream or an answer, deltas put together. */
function textIn(raw: string): string {
  let text = "";
  // Bedrock's frames hold their JSON between bytes of their own.
  for (const [, content, delta] of raw.matchAll(
    /(?:"(?:content|text)":("(?:[^"\\]|\\.)*")(?=[,}]))|(?:"delta":("(?:[^"\\]|\\.)*"))/g,
  )) {
    text += JSON.parse(content ?? delta ?? '""');
  }
  return text;
}

const settled = () => served.accounts.settled.at(-1);
const guardsOf = () => (settled()?.decision as { guardrails?: object[] } | undefined)?.guardrails;
const secret = ["sk-ant", "api03", "x".repeat(40)].join("-");
const person = "mail ada@example.com, card 4111 1111 1111 1111";

test.each(both)(
  "%s (streamed: %s): what is taken out of a request comes back in its answer",
  async (dialect, stream) => {
    said = "You said: ECHO!";
    const answer = await ask("pii", dialect, stream, person);
    expect(asked).toHaveLength(1);
    expect(asked[0]).toContain("mail [EMAIL_1], card [CARD_1]");
    expect(asked[0]).not.toMatch(/ada@|4111/);
    expect(answer.raw).not.toMatch(/EMAIL_1/);
    expect(answer.said).toContain(`You said: ${person}!`);
    expect(answer.guards).toBe("pii=redact");
    expect(guardsOf()).toEqual([
      {
        name: "pii",
        type: "pii",
        on: "request",
        action: "redact",
        hits: 2,
        kinds: { EMAIL: 1, CARD: 1 },
      },
    ]);
  },
);

test.each(both)(
  "%s (streamed: %s): a forbidden word in an answer is never said, not even half",
  async (dialect, stream) => {
    said = "Here is a ForBidden Thing, at last";
    const answer = await ask("words", dialect, stream, "Hi");
    expect(answer.status).toBe(stream ? 200 : 400);
    expect(answer.said).not.toMatch(/forb/i);
    expect(answer.said).not.toMatch(/last/);
    expect(answer.raw).toMatch(/guardrail/);
    expect(settled()).toMatchObject({ outcome: "refused", errorCode: "guardrail_blocked" });
    expect(settled()?.usage).toBeDefined();
    const masked = await ask("masked", dialect, stream, "Hi");
    expect(masked.said).toContain("Here is a [WORD], at last");
  },
);

test.each(both)(
  "%s (streamed: %s): a request that is blocked reaches nobody",
  async (dialect, stream) => {
    const answer = await ask("words", dialect, stream, "Tell me of the FORBIDDEN thing.");
    expect(answer).toMatchObject({ status: 400, guards: "words=block" });
    expect(answer.raw).toContain("'words'");
    expect(asked).toEqual([]);
    expect(settled()).toMatchObject({ outcome: "refused", errorCode: "guardrail_blocked" });
    expect(guardsOf()).toMatchObject([{ name: "words", on: "request", action: "block", hits: 1 }]);
  },
);

test.each(both)(
  "%s (streamed: %s): what is only flagged passes, and is told",
  async (dialect, stream) => {
    said = "Here is a forbidden thing";
    const answer = await ask("flagged", dialect, stream, "Hi");
    expect(answer.said).toContain(said);
    expect(guardsOf()).toMatchObject([{ name: "flagged", on: "answer", action: "flag", hits: 1 }]);
  },
);

test("guards look in their order, each at what the last has left", async () => {
  said = "Fine";
  expect(await ask("ordered", "chat", false, "ada@example.com")).toMatchObject({ status: 200 });
  expect(await ask("ordered", "chat", false, "ada@home")).toMatchObject({ status: 400 });
});

test("a secret stays on hardware of one's own, and is refused where there is none", async () => {
  const kept = await ask("own", "chat", false, secret, { model: "either" });
  expect(kept).toMatchObject({ status: 200, said: "from home", guards: "home=own" });
  expect(asked).toEqual([]);
  const refused = await ask("own", "chat", false, secret);
  expect(refused.status).toBe(400);
  expect(refused.raw).toContain("guardrail_blocked");
  said = "Fine";
  expect(await ask("own", "chat", false, "nothing secret")).toMatchObject({
    status: 200,
    guards: "passed",
  });
});

test("an answer grows no larger than it may, and says nothing but what it may", async () => {
  said = "x".repeat(100);
  const long = await ask("small", "chat", true, "Hi");
  expect(long.said.length).toBeLessThanOrEqual(60);
  expect(long.raw).toContain("guardrail_blocked");
  for (const stream of [false, true]) {
    said = "yes";
    expect((await ask("labels", "chat", stream, "Hi")).said).toBe("yes");
    said = "yes, but";
    const other = await ask("labels", "chat", stream, "Hi");
    expect(other.said).not.toContain("yes");
    expect(other.raw).toContain("guardrail_blocked");
  }
});

test("a model's judgement is asked on the metered path, and billed to the project", async () => {
  said = "Fine";
  const before = served.accounts.settled.length;
  expect(await ask("judged", "chat", false, "a bomb for Bob")).toMatchObject({
    status: 400,
    guards: "judge=block",
  });
  expect(served.accounts.settled.slice(before)).toMatchObject([
    { requestedModel: "judge", tags: { guardrail: "judge" }, outcome: "ok" },
    { requestedModel: "m", errorCode: "guardrail_blocked" },
  ]);
  expect(await ask("judged", "chat", false, "a cake for Bob")).toMatchObject({
    status: 200,
    guards: "passed",
  });
});

test("what is more than a judge or a webhook is shown is objected to, and nobody is asked", async () => {
  const long = (chars: number) => "x ".repeat(chars / 2);
  expect(await ask("judged", "chat", false, `${long(100_000)} cake`)).toMatchObject({
    status: 400,
    guards: "judge=block",
  });
  expect(await ask("open", "chat", false, long(1_000_002))).toMatchObject({
    status: 400,
    guards: "hook=block",
  });
  expect(asked).toEqual([]);
});

test("a text is shown to a judge between lines that its writer cannot know", async () => {
  const fences = [];
  for (const text of ["====", "===="]) {
    asked = [];
    await ask("judged", "chat", false, text);
    const { messages } = JSON.parse(asked[0] as string) as { messages: { content: string }[] };
    const lines = messages[1]?.content.split("\n") ?? [];
    expect(lines).toHaveLength(3);
    expect([lines[1], lines[2]]).toEqual(["====", lines[0]]);
    expect(messages[0]?.content).toContain(`"${lines[0]}"`);
    fences.push(lines[0]);
  }
  expect(new Set(fences).size).toBe(2);
});

test("a webhook that cannot be asked lets pass only where that is wanted; its word holds for streams too", async () => {
  said = "Fine";
  expect(await ask("hooked", "chat", false, "Hi")).toMatchObject({ status: 503 });
  expect(asked).toEqual([]);
  expect(await ask("open", "chat", false, "Hi")).toMatchObject({ status: 200 });
  for (const stream of [false, true]) {
    hookAnswers = () => ({ objects: false });
    expect((await ask("both", "chat", stream, "Hi")).said).toBe("Fine");
    hookAnswers = (texts) => ({ objects: texts.includes("Fine") });
    const refused = await ask("both", "chat", stream, "Hi");
    expect(refused.said).not.toContain("Fine");
    expect(refused.raw).toContain("guardrail_blocked");
  }
});

test("a rehearsal tells what each guard would do, and sends nothing to anybody", async () => {
  const rehearse = async (name: Name, body: object) => {
    const response = await fetch(`${served.url}/api/guardrails/test`, {
      method: "POST",
      headers: { authorization: `Bearer ${keyOf(name)}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    expect(response.headers.get("x-ratelimit-limit-requests")).toBe(response.ok ? "60" : null);
    return { status: response.status, ...((await response.json()) as object) };
  };
  const settledBefore = served.accounts.settled.length;
  const admittedBefore = served.accounts.admitted;
  expect(await rehearse("ordered", { text: "ada@example.com" })).toMatchObject({
    verdict: "passes",
    text: "[EMAIL_1]",
    guards: [
      { name: "first", outcome: "acts", action: "redact", hits: 1, kinds: { EMAIL: 1 } },
      { name: "second", outcome: "passes", hits: 0 },
    ],
  });
  expect(await rehearse("ordered", { text: "ada@home" })).toMatchObject({
    verdict: "blocked",
    text: null,
    guards: [{ outcome: "passes" }, { outcome: "acts", action: "block" }],
  });
  expect(await rehearse("masked", { text: "a forbidden thing", on: "answer" })).toMatchObject({
    verdict: "passes",
    text: "a [WORD]",
  });
  expect(await rehearse("pii", { text: person, on: "answer" })).toMatchObject({
    text: person,
    guards: [{ outcome: "elsewhere" }],
  });
  expect(await rehearse("own", { text: secret })).toMatchObject({ verdict: "own", text: secret });
  expect(await rehearse("judged", { text: "a bomb for Bob" })).toMatchObject({
    verdict: "passes",
    guards: [{ outcome: "asks" }],
  });
  expect(served.accounts.admitted).toBe(admittedBefore + 6);
  expect(await rehearse("pii", { text: "x".repeat(20_001) })).toMatchObject({ status: 400 });
  expect(served.accounts.admitted).toBe(admittedBefore + 7);
  expect(asked).toEqual([]);
  expect(served.accounts.settled.length).toBe(settledBefore);
});

test("nothing of what was found is in the log", () => {
  const log = JSON.stringify(served.log) + JSON.stringify(served.accounts.settled);
  expect(log).not.toMatch(/ada@example|4111 1111|sk-ant-|bomb|forbidden thing/i);
});
