/**
 * One case: what an upstream sends, and what official clients must make of it after the gateway. Each runs with openai 7 and
 * 6 from npm and, where Python has it, openai 3: all three are expected to see the same.
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import OpenAI7 from "openai";
import OpenAI6 from "openai-v6";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findPython } from "../../support/optional-parts.ts";
import { type RunningServer, startServer } from "../../support/server.ts";
import { type SettingsInput, writeSettings } from "../../support/settings.ts";
import { startWire, type Wire, type WireAnswer, type WireRequest } from "./wire.ts";

type Upstream = NonNullable<SettingsInput["upstreams"]>[number];
export type Case = {
  /** Its number in the list of incompatibilities, and what must hold. */
  name: `${number}: ${string}`;
  /** As which upstreams it is known to the gateway; the case is one test for each. */
  upstreams?: readonly Upstream["type"][];
  upstream?: WireAnswer;
  /** What a client sees, as plain data; `cases.py` has a function of the same number. */
  see?: (client: OpenAI7, model: string) => Promise<unknown>;
  /** Of what is seen, matched as `toMatchObject` does. */
  expected: unknown;
  /** Looks at what the upstream was sent. */
  sent?: (requests: WireRequest[]) => void;
};

export type Stage = { server: RunningServer; wire: Wire; url: string };

export const clients = [
  { version: "7", OpenAI: OpenAI7 },
  { version: "6", OpenAI: OpenAI6 as unknown as typeof OpenAI7 },
];
const python = await findPython("openai");

/**
 * Starts the product with an upstream and a model for each case, and runs them all. A case without `see` is for Python too;
 * what is no client's matter follows in `more`.
 */
export function testCases(
  cases: readonly Case[],
  {
    settings = {},
    more,
  }: { settings?: Partial<SettingsInput>; more?: (stage: () => Stage) => void } = {},
): void {
  const runs = cases.flatMap((one) =>
    (one.upstreams ?? (["openai"] as const)).map((type) => ({
      ...one,
      type,
      model: `${numberOf(one)}/${type}`,
    })),
  );
  const answers = new Map(
    runs.flatMap(({ model, upstream }) => (upstream ? [[model, upstream] as const] : [])),
  );
  let stage: Stage;
  let close = async () => {};
  beforeAll(async () => {
    const opened = await openStage({ answers, models: runs, settings });
    close = opened.close;
    stage = opened;
  });
  afterAll(() => close());

  for (const { version, OpenAI } of clients) {
    describe.runIf(runs.some(({ see }) => see))(`openai ${version} from npm`, () => {
      for (const { name, type, model, see, expected, sent } of runs) {
        if (!see) continue;
        test(`${name} (${type})`, async () => {
          const { url, server, wire } = stage;
          const before = wire.requestsOf(model).length;
          const client = new OpenAI({ baseURL: url, apiKey: server.apiKey, maxRetries: 0 });
          expect({ seen: await see(client, model) }).toMatchObject({ seen: expected });
          sent?.(wire.requestsOf(model).slice(before));
        });
      }
    });
  }
  describe.runIf(runs.some(({ see }) => see))("openai from PyPI", () => {
    let seen: Record<string, unknown> = {};
    beforeAll(async () => {
      if (python) seen = await seenByPython(python, stage, runs);
    });
    for (const { name, type, model, see, expected } of runs) {
      if (!see) continue;
      test.skipIf(!python)(`${name} (${type}; skipped without Python's openai)`, () => {
        expect({ seen: seen[model] }).toMatchObject({ seen: expected });
      });
    }
  });
  more?.(() => stage);
}

type Run = { model: string; type: Upstream["type"]; name: string };

async function openStage({
  answers,
  models,
  settings,
}: {
  answers: ReadonlyMap<string, WireAnswer>;
  models: readonly Run[];
  settings: Partial<SettingsInput>;
}): Promise<Stage & { close(): Promise<void> }> {
  const wire = await startWire(answers);
  const types = [...new Set(models.map(({ type }) => type))];
  const file = await writeSettings({
    ...settings,
    upstreams: [
      ...types.map(
        (type) => ({ name: type, type, baseUrl: wire.baseUrl, apiKeyEnv: "WIRE_KEY" }) as Upstream,
      ),
      ...(settings.upstreams ?? []),
    ],
    models: [
      ...models.map(({ model, type }) => ({
        id: model,
        upstream: type,
        prices: { input: "1", output: "1" },
      })),
      ...(settings.models ?? []),
    ],
  });
  const server = await startServer({
    env: { SWITCHYARD_CONFIG: file.path, WIRE_KEY: "sk-wire" },
  });
  return {
    server,
    wire,
    url: `${server.url}/v1`,
    async close() {
      await server.stop();
      await wire.close();
      await file.remove();
    },
  };
}

async function seenByPython(
  program: string,
  { url, server }: Stage,
  runs: readonly Run[],
): Promise<Record<string, unknown>> {
  const script = fileURLToPath(new URL("./cases.py", import.meta.url));
  const models = runs.map(({ model }) => model);
  const { stdout } = await promisify(execFile)(program, [script, url, server.apiKey, ...models], {
    timeout: 120_000,
    maxBuffer: 16 << 20,
  });
  return JSON.parse(stdout);
}

function numberOf({ name }: Pick<Case, "name">): string {
  return name.slice(0, name.indexOf(":"));
}

export const messages = [{ role: "user" as const, content: "Hello" }];
export const tool = (name: string) => ({
  type: "function" as const,
  function: { name, parameters: { type: "object", properties: { city: { type: "string" } } } },
});

type ChatBody = Omit<OpenAI7.Chat.ChatCompletionCreateParamsStreaming, "stream" | "model">;

/** A chat's stream, chunk by chunk and as the client's helper puts it together. */
export async function seeStream(client: OpenAI7, model: string, more: Partial<ChatBody> = {}) {
  const body = { model, messages, ...more };
  const stream = await client.chat.completions.create({ ...body, stream: true });
  const chunks: OpenAI7.Chat.ChatCompletionChunk[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  const final = await client.chat.completions.stream(body).finalChatCompletion();
  const choices = chunks.flatMap((chunk) => chunk.choices);
  const calls = choices.flatMap(({ delta }) => delta.tool_calls ?? []);
  return {
    ids: new Set(chunks.map(({ id }) => id)).size,
    roles: choices.filter(({ delta }) => delta.role != null).length,
    without_choices: chunks.filter((chunk) => (chunk.choices ?? []).length === 0).length,
    usages: chunks.filter((chunk) => chunk.usage != null).length,
    /** In the order of the deltas, each once. */
    indexes: [...new Set(calls.map(({ index }) => index))],
    names: calls.filter((call) => call.function?.name != null).length,
    final: seeAnswer(final),
  };
}

export async function seeWhole(client: OpenAI7, model: string, more: Partial<ChatBody> = {}) {
  const body = { model, messages, ...more };
  return seeAnswer(await client.chat.completions.create({ ...body, stream: false }));
}

function seeAnswer({ choices, usage }: OpenAI7.Chat.ChatCompletion) {
  const [choice] = choices;
  return {
    content: choice?.message.content ?? null,
    finish: choice?.finish_reason ?? null,
    calls: (choice?.message.tool_calls ?? []).flatMap((call) =>
      call.type === "function"
        ? [{ id: call.id, name: call.function.name, arguments: call.function.arguments }]
        : [],
    ),
    tokens: usage?.total_tokens ?? null,
  };
}

/** What a refused call threw, by its class and the fields of the envelope. */
export async function seeError(call: () => Promise<unknown>) {
  try {
    await call();
  } catch (error) {
    const { status, code, type, param } = error as InstanceType<typeof OpenAI7.APIError>;
    const thrown = (error as Error).constructor.name;
    return { class: thrown, status: status ?? null, code: code ?? null, type, param };
  }
  return { class: null };
}
