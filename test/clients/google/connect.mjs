import { GoogleGenAI } from "@google/genai";

const { SWITCHYARD_URL: baseUrl, SWITCHYARD_API_KEY: apiKey } = process.env;

export const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
