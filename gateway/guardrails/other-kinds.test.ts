/** Guards on what is no chat: embeddings, moderations, pictures, speech, transcriptions and realtime, by each action. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import { guardrails as schema } from "../../sdk/protocol/guardrails.ts";
import { startTestGateway, type TestGateway } from "../../test/support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../../test/support/policy.ts";

const word = "forbidden thing";
const deny = { name: "words", type: "deny", words: [word] };
const projects = {
  ...Object.fromEntries(
    ["block", "redact", "flag"].flatMap((action) =>
      ["request", "answer"].map((on) => [`${action} ${on}`, [{ ...deny, action, on: [on] }]]),
    ),
  ),
  own: [{ ...deny, action: "own", on: ["request"] }],
};
const keyOf = (name: string) => `sk-sy-key-of-${name.replace(" ", "-")}-of-these-tests`;

/** Texts of a request where the kind has them, and whether it is a form, whose texts cannot be replaced. */
type Kind = {
  path: string;
  fields(text: string): Record<string, unknown>;
  form?: true;
  /** What the answer says, where it says something. */
  says?: (text: string) => unknown;
};
const kinds: Record<string, Kind> = {
  embeddings: { path: "embeddings", fields: (input) => ({ input }) },
  "embeddings of a list": { path: "embeddings", fields: (text) => ({ input: ["first", text] }) },
  moderations: { path: "moderations", fields: (input) => ({ input }) },
  "moderations of parts": {
    path: "moderations",
    fields: (text) => ({ input: [{ type: "text", text }] }),
  },
  pictures: {
    path: "images/generations",
    fields: (prompt) => ({ prompt }),
    says: (revised_prompt) => ({ created: 1, data: [{ b64_json: "aGVsbG8=", revised_prompt }] }),
  },
  "pictures of pictures": {
    path: "images/edits",
    form: true,
    fields: (prompt) => ({ prompt, image: new File(["png"], "a.png", { type: "image/png" }) }),
    says: (revised_prompt) => ({ created: 1, data: [{ b64_json: "aGVsbG8=", revised_prompt }] }),
  },
  speech: { path: "audio/speech", fields: (input) => ({ input, voice: "alloy" }) },
  "how speech is to sound": {
    path: "audio/speech",
    fields: (instructions) => ({ input: "hello", instructions, voice: "alloy" }),
  },
  transcriptions: {
    path: "audio/transcriptions",
    form: true,
    fields: (prompt) => ({ prompt, file: new File(["RIFF"], "a.wav", { type: "audio/wav" }) }),
    says: (text) => ({ text }),
  },
  translations: {
    path: "audio/translations",
    form: true,
    fields: (prompt) => ({ prompt, file: new File(["RIFF"], "a.wav", { type: "audio/wav" }) }),
    says: (text) => ({ text }),
  },
};

let upstream: Server;
let served: TestGateway;
/** Bodies as they came. */
let asked: string[] = [];
let answer: unknown;

beforeAll(async () => {
  upstream = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    asked.push(body);
    const isSpeech = request.url?.endsWith("/speech");
    response.setHeader("content-type", isSpeech ? "audio/mpeg" : "application/json");
    response.end(isSpeech ? "sound" : JSON.stringify(answer));
  });
  await new Promise<void>((done) => upstream.listen(0, "127.0.0.1", done));
  const { port } = upstream.address() as AddressInfo;
  const all = Object.entries(projects).map(([name, guards]) =>
    testProject(name, { guardrails: schema.parse(guards) }),
  );
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: all,
      keys: all.map(({ id, name }) => testKey(keyOf(name), { projectId: id })),
      models: [testModel("m", { upstream: "any" })],
    }),
    upstreams: [
      { name: "any", type: "openai", baseUrl: `http://127.0.0.1:${port}/v1`, apiKey: "k" },
    ],
  });
});
afterAll(async () => {
  await served?.close();
  upstream?.close();
});
beforeEach(() => {
  asked = [];
  answer = {
    ...{ object: "list", model: "m", id: "modr-1", created: 1, text: "nothing said" },
    data: [{ object: "embedding", index: 0, embedding: [0.1, 0.2] }],
    results: [{ flagged: false, categories: {}, category_scores: {} }],
    usage: { prompt_tokens: 3, total_tokens: 3, input_tokens: 3, output_tokens: 0 },
  };
});

async function ask(project: string, { path, fields, form }: Kind, text: string) {
  const all = { model: "m", ...fields(text) };
  const body = new FormData();
  for (const [name, value] of Object.entries(all)) body.set(name, value as string);
  const response = await fetch(`${served.url}/v1/${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${keyOf(project)}`,
      ...(!form && { "content-type": "application/json" }),
    },
    body: form ? body : JSON.stringify(all),
  });
  const { status, headers } = response;
  return { status, did: headers.get("x-switchyard-guardrails"), text: await response.text() };
}

describe.each(Object.entries(kinds))("%s", (_, kind) => {
  test("that are objected to go nowhere", async () => {
    const refused = await ask("block request", kind, `a ${word} here`);
    expect(refused).toMatchObject({ status: 400, did: "words=block" });
    expect(refused.text).toContain("guardrail_blocked");
    expect(refused.text).not.toContain(word);
    expect(asked).toEqual([]);
  });

  test("leave with placeholders, and forms that would need them are refused by name", async () => {
    const answered = await ask("redact request", kind, `a ${word} here`);
    if (kind.form) {
      expect(answered.status).toBe(400);
      expect(asked).toEqual([]);
      return;
    }
    expect(answered).toMatchObject({ status: 200, did: "words=redact" });
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatch(/a \[WORDS?_1\] here/);
    expect(asked[0]).not.toContain(word);
  });

  test("pass where they are only flagged, and as they came where nothing is found", async () => {
    expect(await ask("flag request", kind, `a ${word} here`)).toMatchObject({
      ...{ status: 200, did: "words=flag" },
    });
    expect(asked[0]).toContain(`a ${word} here`);
    for (const project of ["block request", "redact request"]) {
      expect(await ask(project, kind, "a fine one")).toMatchObject({ status: 200, did: "passed" });
    }
    expect(asked[2]).toContain("a fine one");
  });

  test("leave one's own hardware for nobody", async () => {
    expect((await ask("own", kind, `a ${word} here`)).status).toBeGreaterThanOrEqual(400);
    expect(asked).toEqual([]);
    expect((await ask("own", kind, "a fine one")).status).toBe(200);
  });
});

describe.each(Object.entries(kinds).filter(([, { says }]) => says))("answers to %s", (_, kind) => {
  beforeEach(() => {
    answer = kind.says?.(`it says a ${word} here`);
  });

  test("that are objected to are not told", async () => {
    const refused = await ask("block answer", kind, "a fine one");
    expect(refused).toMatchObject({ status: 400, did: "words=block" });
    expect(refused.text).not.toContain(word);
    expect(asked).toHaveLength(1);
  });

  test("are told without what was found", async () => {
    const answered = await ask("redact answer", kind, "a fine one");
    expect(answered).toMatchObject({ status: 200, did: "words=redact" });
    expect(answered.text).not.toContain(word);
    expect(answered.text).toContain("it says a ");
  });

  test("pass where they are only flagged", async () => {
    const answered = await ask("flag answer", kind, "a fine one");
    expect(answered).toMatchObject({ status: 200, did: "words=flag" });
    expect(answered.text).toContain(`it says a ${word} here`);
  });
});

test.each(Object.keys(projects))(
  "realtime sessions are refused where guards would %s",
  async (name) => {
    const socket = new WebSocket(`${served.url.replace("http", "ws")}/v1/realtime?model=m`, {
      headers: { authorization: `Bearer ${keyOf(name)}` },
    });
    const refusal = await new Promise<{ status: number | undefined; text: string }>((resolve) => {
      socket.on("error", () => {});
      socket.on("unexpected-response", async (_, response) => {
        let text = "";
        for await (const chunk of response) text += chunk;
        resolve({ status: response.statusCode, text });
      });
    });
    expect(refusal.status).toBe(403);
    expect(refusal.text).toContain("no guardrail looks into a realtime session");
    expect(asked).toEqual([]);
  },
);

test.each(["transcriptions", "pictures"])(
  "streamed %s are asked of nobody where their answers would have to be looked at",
  async (name) => {
    const kind = kinds[name] as Kind;
    const stream = kind.form ? "true" : true;
    const streamed = { ...kind, fields: (text: string) => ({ ...kind.fields(text), stream }) };
    for (const project of ["block answer", "redact answer", "flag answer"]) {
      const refused = await ask(project, streamed, "a fine one");
      expect(refused.status).toBe(400);
      expect(refused.text).toContain("'stream' is not supported here where guardrails");
    }
    expect(asked).toEqual([]);
  },
);
