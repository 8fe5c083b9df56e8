/** The product as its users start it, with the demo's engine and one scripted model behind each provider's protocol. */
import { startAnthropicEmulator } from "../emulators/anthropic.ts";
import { startGeminiEmulator } from "../emulators/gemini.ts";
import { startOpenAiEmulator } from "../emulators/openai.ts";
import { startMediaEmulator } from "../emulators/openai-media.ts";
import { startServer } from "../support/server.ts";
import { demoBase, demoModelPath, writeSettings } from "../support/settings.ts";
import { type Door, openDoor } from "./door.ts";
import {
  answerAsAnthropic,
  answerAsGemini,
  answerAsOpenAi,
  plainAnswer,
} from "./scripted-model.ts";

export type Stage = {
  door: Door;
  /** Without a path. */
  url: string;
  apiKey: string;
  adminKey: string;
  /** What drivers find in their environment. */
  env: Record<string, string>;
  close(): Promise<void>;
};

/** By the protocol that is spoken to them. */
const scriptedModels = [
  "scripted-openai",
  "scripted-responses",
  "scripted-claude",
  "scripted-gemini",
] as const;
/** Names that foreign suites send, which reach the scripted model too. */
const foreignModels = [
  "gpt-4o-mini",
  "gpt-4o",
  "gpt-5.4",
  "gpt-5.6-sol",
  "gpt-5.1",
  "gpt-6-astra",
  "string",
  "model",
];
/** Of texts and vectors, which the engine itself makes. */
const foreignTextModels = ["gpt-3.5-turbo-instruct", "text-embedding-3-small"];
const foreignMediaModels = [
  "dall-e-2",
  "gpt-image-1",
  "gpt-image-1.5",
  "gpt-image-2",
  "gpt-4o-transcribe",
  "gpt-4o-mini-tts",
  "omni-moderation-2024-09-26",
  "omni-moderation-latest",
  "tts-1",
  "whisper-1",
];
const base = demoBase.id;
const adapter = `${base}:support-triage`;

export async function openStage(): Promise<Stage> {
  const [openAi, media, anthropic, gemini] = await Promise.all([
    startOpenAiEmulator({ answer: answerAsOpenAi }),
    startMediaEmulator(),
    startAnthropicEmulator({ answer: answerAsAnthropic }),
    startGeminiEmulator({ answer: answerAsGemini }),
  ]);
  const settings = await writeSettings({
    upstreams: [
      { name: "openai", type: "openai", baseUrl: openAi.baseUrl },
      { name: "media", type: "openai", baseUrl: media.baseUrl, apiKeyEnv: "MEDIA_KEY" },
      { name: "responses", type: "openai", api: "responses", baseUrl: openAi.baseUrl },
      {
        name: "anthropic",
        type: "anthropic",
        baseUrl: anthropic.baseUrl,
        apiKeyEnv: "EMULATED_KEY",
      },
      { name: "gemini", type: "gemini", baseUrl: gemini.baseUrl, apiKeyEnv: "EMULATED_KEY" },
    ],
    models: [
      { id: "scripted-openai", upstream: "openai" },
      { id: "scripted-responses", upstream: "responses" },
      {
        id: "scripted-claude",
        upstream: "anthropic",
        upstreamModel: "claude-opus-4-8",
        contextLength: 200_000,
        maxOutputTokens: 64_000,
      },
      { id: "scripted-gemini", upstream: "gemini", upstreamModel: "gemini-3-pro" },
      { id: "failing", upstream: "openai", upstreamModel: "any!status:500" },
      { id: "limited", upstream: "openai", upstreamModel: "any!status:429" },
      { id: "breaking", upstream: "openai", upstreamModel: "any!cut:3" },
      ...foreignModels.map((id) => ({ id, upstream: "openai" })),
      ...foreignMediaModels.map((id) => ({ id, upstream: "media" })),
    ],
    routes: foreignTextModels.map((name) => ({ name, defaultModel: base })),
    embedded: {
      ...demoBase,
      adapters: [{ name: "support-triage", folder: demoModelPath("adapters/support-triage") }],
    },
    // A suite that asks a failing model again and again must not close the door to others.
    gateway: { breakerFailures: 10_000 },
  });
  const server = await startServer({
    env: { SWITCHYARD_CONFIG: settings.path, EMULATED_KEY: "sk-emulated", MEDIA_KEY: "sk-media" },
  });
  const door = await openDoor(server);
  return {
    door,
    url: door.url,
    apiKey: server.apiKey,
    adminKey: server.adminKey,
    env: {
      SWITCHYARD_URL: door.url,
      SWITCHYARD_API_KEY: server.apiKey,
      SWITCHYARD_MODELS: scriptedModels.join(","),
      SWITCHYARD_BASE: base,
      SWITCHYARD_ADAPTER: adapter,
      SWITCHYARD_PLAIN_ANSWER: plainAnswer,
    },
    async close() {
      await door.close();
      await server.stop();
      await Promise.all([
        openAi.close(),
        media.close(),
        anthropic.close(),
        gemini.close(),
        settings.remove(),
      ]);
    },
  };
}
