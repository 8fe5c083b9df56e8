/**
 * Requests and upstreams' answers, spoiled at random from fixed seeds, in every client dialect against every format: no
 * answer is our fault, each refusal is one error of the client's own dialect, and every stream comes to an end.
 */
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { operations } from "../../gateway/openapi/operations.ts";
import { type SampleFormat, sampleAnswer } from "../support/fuzz/answers.ts";
import { randomFrom, spoilBytes, spoilJson } from "../support/fuzz/random.ts";
import { endOfStream } from "../support/fuzz/read-stream.ts";
import { type SampleDialect, sampleRequest } from "../support/fuzz/requests.ts";
import { type SampleUpstream, startSampleUpstream } from "../support/fuzz/upstream.ts";
import { startTestGateway, type TestGateway } from "../support/gateway.ts";
import { faultOf } from "../support/openapi.ts";
import { testKey, testModel, testProject, testSnapshot } from "../support/policy.ts";

const dialects: readonly SampleDialect[] = [
  "openai-chat",
  "openai-completions",
  "openai-responses",
  "anthropic-messages",
  "gemini",
  "bedrock-converse",
];
const formats: readonly SampleFormat[] = [
  "openai-chat",
  "openai-responses",
  "anthropic-messages",
  "gemini",
  "bedrock-converse",
  "cohere-chat",
];
/** Completions are not translated. */
const pairs = dialects.flatMap((dialect) =>
  (dialect === "openai-completions" ? (["openai-chat"] as const) : formats).map(
    (format) => [dialect, format] as const,
  ),
);
/** Another one finds other things: `FUZZ_SEED=7 npx vitest run test/e2e/fuzzed.test.ts`. */
const seed = Number(process.env.FUZZ_SEED ?? 1);

const acme = testProject("acme");
const apiKey = "sk-sy-key-of-the-acme-project";
const answerBytesMax = 200_000;

let upstream: SampleUpstream;
let served: TestGateway;
beforeAll(async () => {
  upstream = await startSampleUpstream();
  served = await startTestGateway({
    snapshot: testSnapshot({
      projects: [acme],
      keys: [testKey(apiKey, { projectId: acme.id })],
      models: formats.map((format) => testModel(format, { upstream: format })),
    }),
    upstreams: upstream.settings,
    limits: { breakerFailures: 1_000_000, answerBytesMax },
  });
});
afterEach(() => {
  upstream.spoil = undefined;
  // Nothing was our own mistake, and no prototype got a member from a body.
  expect(served.log.filter(({ msg }) => msg === "failed")).toEqual([]);
  expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
});
afterAll(async () => {
  await served.close();
  await upstream.close();
});

type Asked = { dialect: SampleDialect; model: string; stream: boolean };

async function ask(
  { dialect, model, stream }: Asked,
  spoil: (body: unknown) => string | Uint8Array,
) {
  const { path, headers, body } = sampleRequest(dialect, { model, stream });
  const response = await served.gateway.app.fetch(
    new Request(`http://gateway${path}`, {
      method: "POST",
      body: spoil(body) as Uint8Array<ArrayBuffer>,
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${apiKey}`,
        ...headers,
      },
    }),
  );
  const bytes = Buffer.from(await response.arrayBuffer());
  const type = response.headers.get("content-type") ?? "";
  return { status: response.status, type, bytes, text: bytes.toString() };
}

type Answered = Awaited<ReturnType<typeof ask>>;

/** What is wrong with an answer, streamed or not. */
function wrongWith({ dialect, stream, model }: Asked, answered: Answered): string | undefined {
  const { path } = sampleRequest(dialect, { model: "{model}", stream });
  const address = path.split("?")[0] ?? "";
  const operation = operations.find((one) => one.method === "post" && one.path === address);
  if (!operation) return `${address} is not told`;
  const passed = dialect === model || dialect === "openai-completions";
  // What passes is the upstream's own, whatever it is.
  if (passed && answered.status === 200 && !stream) return undefined;
  const fault = faultOf(operation, answered);
  if (fault !== undefined || answered.type.startsWith("application/json")) return fault;
  return endOfStream(dialect, answered.bytes, { passed });
}

/** What one format has no place for, and says so: the Responses API for strings to stop at, Cohere for a format beside tools. */
function withoutRefused({ dialect, model }: Asked): (body: unknown) => string {
  const formats = ["response_format", "responseMimeType", "responseSchema", "responseJsonSchema"];
  // Elsewhere a format is a picture's.
  if (dialect === "openai-responses") formats.push("format");
  const stops = ["stop", "stop_sequences", "stopSequences"];
  const refused = model === "cohere-chat" ? [...stops, ...formats] : stops;
  return (body) =>
    JSON.stringify(body, (name, value) => (refused.includes(name) ? undefined : value));
}

describe.each(pairs)("%s of %s", (dialect, model) => {
  test("answers what it is asked, whole and streamed", async () => {
    for (const stream of [false, true]) {
      const asked = { dialect, model, stream };
      const answered = await ask(asked, withoutRefused(asked));
      expect([answered.status, wrongWith(asked, answered)]).toEqual([200, undefined]);
      expect(answered.text).toContain("sunny");
    }
  });

  test("takes a spoiled body, or says what is wrong with it", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.boolean(), fc.boolean(), async (nat, stream, broken) => {
        const random = randomFrom(nat);
        const asked = { dialect, model, stream };
        const answered = await ask(asked, (body) => {
          const text = spoilJson(body, random);
          return broken ? spoilBytes(Buffer.from(text), random) : text;
        });
        const wrong = answered.status < 500 ? whole(asked, answered) : answered.text;
        expect(wrong).toBeUndefined();
      }),
      { seed, numRuns: 60 },
    );
  });

  test("an upstream's spoiled answer is an answer, or one error", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.boolean(), async (nat, stream) => {
        upstream.spoil = (bytes) => spoilBytes(bytes, randomFrom(nat));
        const asked = { dialect, model, stream };
        const answered = await ask(asked, withoutRefused(asked));
        expect(whole(asked, answered)).toBeUndefined();
      }),
      { seed, numRuns: 60 },
    );
  });
});

/** A spoiled body may ask for a stream, or not for one, other than it was meant to. */
function whole(asked: Asked, answered: Answered): string | undefined {
  const both = [asked, { ...asked, stream: !asked.stream }].map((one) => wrongWith(one, answered));
  return both.includes(undefined) ? undefined : both[0];
}

describe("an upstream without an end", () => {
  const endless = (format: SampleFormat, piece: Uint8Array, times: number) => {
    const { bytes } = sampleAnswer(format, true);
    const head = format === "openai-chat" ? bytes.indexOf("\n\n") + 2 : 0;
    return Buffer.concat([
      bytes.subarray(0, head),
      ...Array.from({ length: times }, () => piece),
      bytes.subarray(head),
    ]);
  };
  const delta = (fields: object) =>
    Buffer.from(
      `data: ${JSON.stringify({ choices: [{ index: 0, delta: fields, finish_reason: null }] })}\n\n`,
    );

  test.each(dialects.filter((one) => one !== "openai-chat" && one !== "openai-completions"))(
    "is cut off for a client of %s, which is told so once",
    async (dialect) => {
      upstream.spoil = () => endless("openai-chat", delta({ content: "x".repeat(1000) }), 300);
      const asked = { dialect, model: "openai-chat", stream: true };
      const answered = await ask(asked, JSON.stringify);
      expect(wrongWith(asked, answered)).toBeUndefined();
      expect(answered.text).toContain(`larger than ${answerBytesMax} bytes`);
      expect(answered.text).not.toContain("sunny");
    },
  );

  test("that begins ever more tool calls is cut off", async () => {
    let id = 0;
    upstream.spoil = () =>
      Buffer.concat(
        Array.from({ length: 500 }, () => {
          id++;
          const call = { index: id, id: `call_${id}`, type: "function", function: { name: "f" } };
          return delta({ tool_calls: [call] });
        }),
      );
    const asked = { dialect: "anthropic-messages", model: "openai-chat", stream: true } as const;
    const answered = await ask(asked, JSON.stringify);
    expect(answered.text).toContain("too many tool calls at once");
    expect(wrongWith(asked, answered)).toBeUndefined();
  });
});
