import Instructor from "@instructor-ai/instructor";
import OpenAI from "openai";

const { SWITCHYARD_URL, SWITCHYARD_API_KEY: apiKey } = process.env;

export const instructor = (mode) =>
  Instructor({ client: new OpenAI({ baseURL: `${SWITCHYARD_URL}/v1`, apiKey }), mode });
