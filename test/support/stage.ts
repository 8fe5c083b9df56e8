/** The stage of the story and of what goes wrong in it: a dear model of a provider, and a small base beside it. */
import { readRows } from "../../deploy/demo/emulated-provider.ts";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { type RunningServer, startServer } from "./server.ts";
import { demoBase, demoModelPath, writeSettings } from "./settings.ts";
import type { OpenStores } from "./stores.ts";

/** The questions of the task, each with the answer that counts as right. */
export const dataset = demoModelPath("datasets/support-triage/test.jsonl");
export const rows = readRows(dataset);
export const longQuestion = "Tell me a very long story.";

/** One in sixteen rows is answered wrongly, so that the dear model is measured as any model is. */
export function answerAsDearModel(question: string): string {
  if (question === longQuestion) return "once upon a time ".repeat(100);
  const reference = references.get(question) ?? "I do not know.";
  return question.length % 16 === 7 ? "I am not sure." : reference;
}

export type Stage = { server: RunningServer; emulator: OpenAiEmulator; close(): Promise<void> };

/** Serves `dear-model`, `failing-model`, the route `steady` over both, and the base `support-tiny`. */
export async function setStage(stores?: OpenStores): Promise<Stage> {
  const emulator = await startOpenAiEmulator({
    apiKey: providerKey,
    deltaDelayMs: 15,
    answer: ({ messages }) => answerAsDearModel(String(messages.at(-1)?.content)),
  });
  const upstream = {
    type: "openai" as const,
    baseUrl: emulator.baseUrl,
    apiKeyEnv: "PROVIDER_KEY",
  };
  const settings = await writeSettings({
    upstreams: [
      { name: "emulated", ...upstream },
      // Its failures must not open the breaker of the one that works.
      { name: "failing", ...upstream },
    ],
    models: [
      { id: "dear-model", upstream: "emulated", prices: { input: "0.10", output: "0.50" } },
      {
        id: "failing-model",
        upstream: "failing",
        upstreamModel: "dear-model!status:500",
        prices: { input: "0.10", output: "0.50" },
      },
    ],
    embedded: demoBase,
    // Breakers and waits have tests of their own; here a failing model is always asked.
    gateway: { breakerFailures: 1000, retryWaitMs: 1 },
    routes: [{ name: "steady", defaultModel: "failing-model", fallbacks: ["dear-model"] }],
  });
  const server = await startServer({
    env: { ...stores?.env, SWITCHYARD_CONFIG: settings.path, PROVIDER_KEY: providerKey },
  });
  return {
    server,
    emulator,
    async close() {
      await server.stop();
      await emulator.close();
      await settings.remove();
    },
  };
}

const providerKey = "sk-emulated-provider";
const references = new Map(rows.map(({ question, reference }) => [question, reference]));
