/** An upstream that speaks every format and takes whatever it is sent; its answers can be spoiled on their way. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type UpstreamSettings, upstreamSettings } from "../../../gateway/providers/settings.ts";
import { type SampleAnswer, type SampleFormat, sampleAnswer, sampleMedia } from "./answers.ts";

export type SampleUpstream = {
  /** One upstream for each format, called as the format is. */
  settings: UpstreamSettings[];
  /** What becomes of an answer on its way; nothing while it is not set. */
  spoil: ((bytes: Uint8Array) => Uint8Array) | undefined;
  close(): Promise<void>;
};

/** Listens on a free port of 127.0.0.1. */
export async function startSampleUpstream(): Promise<SampleUpstream> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { type, bytes } = answerTo(request.url ?? "", Buffer.concat(chunks).toString());
      response.writeHead(200, { "content-type": type });
      response.end(upstream.spoil?.(bytes) ?? bytes);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const upstream: SampleUpstream = {
    settings: [
      { name: "openai-chat", type: "openai", baseUrl: `${url}/v1`, api: "chat" },
      { name: "openai-responses", type: "openai", baseUrl: `${url}/v1`, api: "responses" },
      { name: "anthropic-messages", type: "anthropic", baseUrl: `${url}/v1` },
      { name: "gemini", type: "gemini", baseUrl: `${url}/v1beta` },
      { name: "bedrock-converse", type: "bedrock", baseUrl: url, region: "us-east-1" },
      { name: "cohere-chat", type: "cohere", baseUrl: `${url}/v2` },
    ].map((one) => upstreamSettings.parse({ ...one, apiKey: "key-of-the-sample-upstream" })),
    spoil: undefined,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return upstream;
}

function answerTo(path: string, body: string): SampleAnswer {
  const media = sampleMedia(path, /"stream":\s*(?:true|"true"|"1")/.test(body));
  return media ?? sampleAnswer(formatOf(path), wantsStream(path, body));
}

function wantsStream(path: string, body: string): boolean {
  if (/:streamGenerateContent|converse-stream/.test(path)) return true;
  return (JSON.parse(body) as { stream?: unknown }).stream === true;
}

function formatOf(path: string): SampleFormat {
  if (path.endsWith("/chat/completions")) return "openai-chat";
  if (path.endsWith("/completions")) return "openai-completions";
  if (path.endsWith("/embeddings")) return "openai-embeddings";
  if (path.endsWith("/responses")) return "openai-responses";
  if (path.endsWith("/v2/chat")) return "cohere-chat";
  if (path.endsWith("/messages")) return "anthropic-messages";
  return path.includes("enerateContent") ? "gemini" : "bedrock-converse";
}
