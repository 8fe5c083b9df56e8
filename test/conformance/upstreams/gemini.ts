/** Google's Gemini, emulated. */
import { type GeminiEmulatedAnswer, startGeminiEmulator } from "../../emulators/gemini.ts";
import type { Fault, Upstream } from "../driver.ts";
import { nothingSeen, type Said, type Seen, say } from "../neutral.ts";

export const geminiKey = "key-of-google";

export async function startGemini(): Promise<Upstream & { baseUrl: string }> {
  let script: readonly Said[] = [];
  let turn = 0;
  const emulator = await startGeminiEmulator({
    strict: true,
    apiKey: geminiKey,
    answer: () => toAnswer(script[Math.min(turn++, script.length - 1)] ?? {}),
  });
  return {
    name: "Gemini",
    baseUrl: emulator.baseUrl,
    model: (fault) => `gemini-3-pro${fault ? `!${faults[fault]}` : ""}`,
    prepare(said) {
      script = said;
      turn = 0;
    },
    seen: () => read(emulator.requests.at(-1)?.body ?? {}),
    scripted: true,
    tells: { cacheRead: true, cacheWrite: false, reasoning: true, logprobs: true },
    seals: true,
    refuses: false,
    filters: true,
    stopped: false,
    close: () => emulator.close(),
  };
}

const faults: Readonly<Record<Fault, string>> = {
  split: "split",
  "400": "status-400",
  "401": "status-403",
  "429": "status-429",
  "500": "status-500",
  overloaded: "status-503",
  broken: "error-2",
  cut: "cut-2",
};

function toAnswer(said: Said): GeminiEmulatedAnswer {
  const { text, reasoning, calls = [], cites, logprobs, end, usage } = said;
  const words = text?.match(/\s*\S+|\s+$/g) ?? [];
  const candidate = {
    ...(cites && {
      groundingMetadata: {
        groundingChunks: [{ web: { uri: cites.url, title: cites.title } }],
        groundingSupports: [
          { segment: { endIndex: cites.end, text: "cited" }, groundingChunkIndices: [0] },
        ],
      },
    }),
    ...(logprobs && {
      logprobsResult: {
        chosenCandidates: logprobs.map((logProbability, at) => ({
          token: words[at] ?? "",
          logProbability,
        })),
      },
    }),
  };
  return {
    parts: [
      ...(reasoning === undefined ? [] : [{ text: reasoning, thought: true }]),
      ...(text === undefined ? [] : [{ text }]),
      // The first call of several is signed for all.
      ...calls.map(({ id, name, input }, index) => ({
        functionCall: { id, name, args: input },
        ...(index === 0 && { thoughtSignature: "c2lnbmVk" }),
      })),
    ],
    finishReason: end === undefined ? "STOP" : ends[end],
    // Of a prompt that its filter refuses it has no candidate.
    ...(end === "content_filter" &&
      text === undefined && { promptFeedback: { blockReason: "PROHIBITED_CONTENT" } }),
    candidate,
    ...(usage && {
      usage: {
        promptTokenCount: usage.input + (usage.cacheRead ?? 0),
        cachedContentTokenCount: usage.cacheRead ?? 0,
        candidatesTokenCount: usage.output,
        thoughtsTokenCount: usage.reasoning ?? 0,
        totalTokenCount:
          usage.input + (usage.cacheRead ?? 0) + usage.output + (usage.reasoning ?? 0),
      },
    }),
  };
}

const ends = { length: "MAX_TOKENS", stop_sequence: "STOP", content_filter: "SAFETY" };

// biome-ignore lint/suspicious/noExplicitAny: what was sent is any JSON
type Fields = Record<string, any>;

function read(body: Fields): Seen {
  const seen = structuredClone(nothingSeen);
  seen.system = (body.systemInstruction?.parts ?? []).map((part: Fields) => part.text).join("\n");
  for (const { role, parts } of body.contents as { role: string; parts: Fields[] }[]) {
    for (const part of parts) {
      const { text, thought, thoughtSignature, inlineData, fileData } = part;
      if (thoughtSignature !== undefined) seen.seals.push(thoughtSignature);
      if (text !== undefined && !thought) {
        say(seen.said, role === "model" ? "assistant" : "user", text);
      }
      const media = inlineData?.data ?? fileData?.fileUri;
      const isImage = (inlineData ?? fileData)?.mimeType?.startsWith("image/");
      if (media !== undefined) (isImage ? seen.images : seen.files).push(media);
      if (part.functionCall) {
        const { id, name, args } = part.functionCall;
        seen.calls.push({ id, name, input: args });
      }
      if (part.functionResponse) {
        const { id, response } = part.functionResponse;
        const told = response.error ?? response.output ?? response;
        const said = typeof told === "string" ? told : JSON.stringify(told);
        seen.results.push({ id, text: said, failed: "error" in response });
      }
    }
  }
  const { tools = [], toolConfig, generationConfig = {} } = body;
  const { mode, allowedFunctionNames } = toolConfig?.functionCallingConfig ?? {};
  return {
    ...seen,
    tools: tools.flatMap((tool: Fields) =>
      (tool.functionDeclarations ?? []).map((one: Fields) => one.name),
    ),
    choice: allowedFunctionNames?.[0] ?? modes[mode as keyof typeof modes],
    schema: generationConfig.responseJsonSchema,
    stop: generationConfig.stopSequences ?? [],
    outputTokensMax: generationConfig.maxOutputTokens,
    temperature: generationConfig.temperature,
    logprobs: generationConfig.responseLogprobs === true,
    thinks: generationConfig.thinkingConfig !== undefined,
  };
}

const modes = { ANY: "required", NONE: "none" };
