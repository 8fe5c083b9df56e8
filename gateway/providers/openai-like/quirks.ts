/**
 * Those that nearly speak OpenAI's chat completions, a row each: where they are, and what of it they lack. Read off their
 * published references in November 2026.
 */
import type { MediaFormatName } from "../format.ts";
import type { ChatBodyOptions } from "../openai/body.ts";

export type Quirks = {
  /** Absent where every installation has its own. */
  baseUrl?: string;
  /** What the vendor's own SDK calls the variable with the key. */
  apiKeyEnv?: string;
  keyHeader?: "authorization" | "api-key";
  /** The client's bytes pass as they are; else each answer is read, and written as OpenAI would have written it. */
  passes?: boolean;
  /** What it has of OpenAI's moderations, images and audio at the same addresses; none when absent. */
  media?: "all" | readonly MediaFormatName[];
  /** Whether it has OpenAI's realtime sessions. */
  hasRealtime?: boolean;
  body: ChatBodyOptions;
};

/** An engine's server; what it serves is its operator's choice. */
const engine: Quirks = {
  passes: true,
  media: "all",
  hasRealtime: true,
  body: { samplesMore: true, reasons: true },
};

const audio = ["openai-speech", "openai-transcriptions", "openai-translations"] as const;

export const quirks = {
  azure: {
    apiKeyEnv: "AZURE_OPENAI_API_KEY",
    keyHeader: "api-key",
    media: ["openai-image-generations", "openai-image-edits", ...audio],
    hasRealtime: true,
    body: { samplesMore: false, reasons: true, passesRest: true, takesFreeText: true },
  },
  mistral: {
    baseUrl: "https://api.mistral.ai/v1",
    apiKeyEnv: "MISTRAL_API_KEY",
    media: ["openai-moderations", "openai-transcriptions"],
    body: {
      samplesMore: false,
      reasons: false,
      names: { outputTokensMax: "max_tokens", seed: "random_seed" },
      lacks: ["user"],
      refuses: ["logitBias", "topLogprobs"],
      anyTool: "any",
      temperatureMax: 1.5,
      shortCallIds: true,
      strict: true,
    },
  },
  groq: {
    baseUrl: "https://api.groq.com/openai/v1",
    apiKeyEnv: "GROQ_API_KEY",
    media: audio,
    body: {
      samplesMore: false,
      reasons: true,
      refuses: ["choices", "logitBias", "topLogprobs"],
    },
  },
  together: {
    baseUrl: "https://api.together.xyz/v1",
    apiKeyEnv: "TOGETHER_API_KEY",
    media: ["openai-image-generations", ...audio],
    body: {
      samplesMore: true,
      reasons: true,
      names: { outputTokensMax: "max_tokens" },
      // Its `logprobs` is a number and means something else.
      refuses: ["topLogprobs"],
      passesRest: true,
    },
  },
  fireworks: {
    baseUrl: "https://api.fireworks.ai/inference/v1",
    apiKeyEnv: "FIREWORKS_API_KEY",
    body: {
      samplesMore: true,
      reasons: true,
      names: { outputTokensMax: "max_tokens" },
      passesRest: true,
    },
  },
  deepseek: {
    baseUrl: "https://api.deepseek.com",
    apiKeyEnv: "DEEPSEEK_API_KEY",
    body: {
      samplesMore: false,
      reasons: false,
      names: { outputTokensMax: "max_tokens" },
      lacks: ["seed", "user", "parallelToolCalls"],
      refuses: ["choices", "logitBias", "jsonSchema", "media"],
      returnsReasoning: true,
      strict: true,
    },
  },
  xai: {
    baseUrl: "https://api.x.ai/v1",
    apiKeyEnv: "XAI_API_KEY",
    media: ["openai-image-generations"],
    hasRealtime: true,
    body: { samplesMore: false, reasons: true, refuses: ["logitBias"], passesRest: true },
  },
  openrouter: {
    baseUrl: "https://openrouter.ai/api/v1",
    apiKeyEnv: "OPENROUTER_API_KEY",
    body: { samplesMore: true, reasons: true, passesRest: true },
  },
  ollama: {
    baseUrl: "http://127.0.0.1:11434/v1",
    body: {
      samplesMore: false,
      reasons: true,
      names: { outputTokensMax: "max_tokens" },
      lacks: ["user"],
      // It answers once, whatever is asked.
      refuses: ["choices", "logitBias"],
      ignoresToolChoice: true,
      passesRest: true,
    },
  },
  /** Whoever else nearly speaks it, such as mlx-lm, Xinference, LM Studio or another gateway. */
  compatible: { body: { samplesMore: true, reasons: true, passesRest: true } },
  vllm: engine,
  sglang: engine,
  tgi: engine,
  llamacpp: engine,
  triton: engine,
  "tensorrt-llm": engine,
} as const satisfies Record<string, Quirks>;

export type OpenAiLike = keyof typeof quirks;
export const openAiLike = Object.keys(quirks) as [OpenAiLike, ...OpenAiLike[]];
