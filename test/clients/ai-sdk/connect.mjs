import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

const { SWITCHYARD_URL, SWITCHYARD_API_KEY: apiKey } = process.env;
const baseURL = `${SWITCHYARD_URL}/v1`;

/** `openai("m")` speaks the Responses API, `openai.chat("m")` chat completions. */
export const openai = createOpenAI({ baseURL, apiKey });
export const anthropic = createAnthropic({ baseURL, apiKey });
export const google = createGoogleGenerativeAI({ baseURL: `${SWITCHYARD_URL}/v1beta`, apiKey });
export const compatible = createOpenAICompatible({
  name: "switchyard",
  baseURL,
  apiKey,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
