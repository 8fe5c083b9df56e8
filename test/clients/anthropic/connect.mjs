import Anthropic from "@anthropic-ai/sdk";

const { SWITCHYARD_URL: baseURL, SWITCHYARD_API_KEY: apiKey } = process.env;

export const client = new Anthropic({ baseURL, apiKey });
