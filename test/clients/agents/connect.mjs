import { setDefaultOpenAIClient, setOpenAIAPI, setTracingDisabled } from "@openai/agents";
import OpenAI from "openai";

const { SWITCHYARD_URL, SWITCHYARD_API_KEY: apiKey } = process.env;

setDefaultOpenAIClient(new OpenAI({ baseURL: `${SWITCHYARD_URL}/v1`, apiKey }));
setOpenAIAPI("responses"); // or "chat_completions"
setTracingDisabled(true); // traces go to OpenAI
