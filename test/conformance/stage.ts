/** One gateway with all upstreams behind it, and a client of each dialect in front. */
import { startTestGateway } from "../support/gateway.ts";
import { testKey, testModel, testProject, testSnapshot } from "../support/policy.ts";
import { anthropic } from "./dialects/anthropic.ts";
import { bedrock } from "./dialects/bedrock.ts";
import { gemini } from "./dialects/gemini.ts";
import { openAiChat } from "./dialects/openai-chat.ts";
import { openAiCompletions } from "./dialects/openai-completions.ts";
import { openAiResponses } from "./dialects/openai-responses.ts";
import type { Client, Dialect, Fault, Upstream } from "./driver.ts";
import type { Raw } from "./neutral.ts";
import { anthropicKey, startAnthropic } from "./upstreams/anthropic.ts";
import { bedrockKey, startBedrock } from "./upstreams/bedrock.ts";
import { cohereKey, startCohere } from "./upstreams/cohere.ts";
import { startEmbedded } from "./upstreams/embedded.ts";
import { geminiKey, startGemini } from "./upstreams/gemini.ts";
import { openAiKey, startOpenAi } from "./upstreams/openai.ts";

export const dialects: readonly Dialect[] = [
  openAiChat,
  openAiResponses,
  openAiCompletions,
  anthropic,
  gemini,
  bedrock,
];

export type Stage = {
  upstreams: readonly Upstream[];
  /** One for each pair, so that all upstreams may be asked at once. */
  client(dialect: Dialect, upstream: Upstream): Client;
  /** What the gateway answered last to those who ask this upstream. */
  raw(upstream: Upstream): Promise<Raw>;
  close(): Promise<void>;
};

/** What a model behind an upstream is called in front. */
export function modelOf(upstream: Upstream, fault: Fault | undefined): string {
  return fault ? `${slugOf(upstream)}.${fault}` : slugOf(upstream);
}

function slugOf({ name }: Upstream): string {
  return name.toLowerCase().replaceAll(" ", "-");
}

function keyOf(upstream: Upstream): string {
  return `sk-sy-key-for-${slugOf(upstream)}`;
}

export async function openStage(): Promise<Stage> {
  const [chat, responses, claude, google, aws, cohere, embedded] = await Promise.all([
    startOpenAi("chat"),
    startOpenAi("responses"),
    startAnthropic(),
    startGemini(),
    startBedrock(),
    startCohere(),
    startEmbedded(operatorKey),
  ]);
  const upstreams: readonly Upstream[] = [chat, responses, claude, google, aws, cohere, embedded];
  const last = new Map<string, Promise<Raw>>();
  const project = testProject("acme");
  const served = await startTestGateway({
    answered({ headers }, response) {
      const bearer = headers.get("authorization")?.replace(/^Bearer /, "");
      const key = bearer ?? headers.get("x-api-key") ?? headers.get("x-goog-api-key") ?? "";
      last.set(key, read(response));
    },
    embedded: embedded.app,
    snapshot: testSnapshot({
      projects: [project],
      keys: upstreams.map((upstream) => testKey(keyOf(upstream), { projectId: project.id })),
      models: upstreams.flatMap((upstream) =>
        (upstream.scripted ? faults : [undefined]).map((fault) =>
          testModel(modelOf(upstream, fault), {
            upstream: upstream.scripted ? slugOf(upstream) : "embedded",
            upstreamModel: upstream.model(fault),
          }),
        ),
      ),
    }),
    upstreams: [
      { name: "openai-chat", type: "openai", baseUrl: chat.baseUrl, apiKey: openAiKey },
      {
        name: "openai-responses",
        type: "openai",
        api: "responses",
        baseUrl: responses.baseUrl,
        apiKey: openAiKey,
      },
      { name: "anthropic", type: "anthropic", baseUrl: claude.baseUrl, apiKey: anthropicKey },
      { name: "gemini", type: "gemini", baseUrl: google.baseUrl, apiKey: geminiKey },
      {
        name: "bedrock",
        type: "bedrock",
        region: "eu-west-1",
        baseUrl: aws.baseUrl,
        apiKey: bedrockKey,
      },
      { name: "cohere", type: "cohere", baseUrl: cohere.baseUrl, apiKey: cohereKey },
    ],
    // One model's faults are not to close an upstream to the cells after it.
    limits: { breakerFailures: 1_000_000 },
  });
  const clients = new Map<string, Client>();
  return {
    upstreams,
    client(dialect, upstream) {
      const pair = `${dialect.name} → ${upstream.name}`;
      const client =
        clients.get(pair) ?? dialect.connect({ url: served.url, apiKey: keyOf(upstream) });
      clients.set(pair, client);
      return client;
    },
    raw: (upstream) => last.get(keyOf(upstream)) as Promise<Raw>,
    async close() {
      await served.close();
      await Promise.all(upstreams.map((upstream) => upstream.close()));
    },
  };
}

async function read(response: Response): Promise<Raw> {
  const { status, headers } = response;
  return {
    status,
    type: headers.get("content-type") ?? "",
    dropped: headers.get("x-switchyard-dropped") ?? "",
    // Of a stream that breaks off, what came before.
    text: await response.text().catch(() => ""),
  };
}

/** Of the tests' gateway. */
const operatorKey = "operator-key-of-the-tests";
const faults: readonly (Fault | undefined)[] = [
  undefined,
  "split",
  "400",
  "401",
  "429",
  "500",
  "overloaded",
  "broken",
  "cut",
];
