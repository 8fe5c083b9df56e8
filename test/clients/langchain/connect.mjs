import { ChatAnthropic } from "@langchain/anthropic";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";

const { SWITCHYARD_URL, SWITCHYARD_API_KEY: apiKey } = process.env;
const configuration = { baseURL: `${SWITCHYARD_URL}/v1` };

/** `useResponsesApi: true` speaks the Responses API. */
export const chat = (model, more) => new ChatOpenAI({ model, apiKey, configuration, ...more });
export const embeddings = (model, more) =>
  new OpenAIEmbeddings({ model, apiKey, configuration, ...more });
export const claude = (model, more) =>
  new ChatAnthropic({ model, apiKey, anthropicApiUrl: SWITCHYARD_URL, maxTokens: 1000, ...more });
