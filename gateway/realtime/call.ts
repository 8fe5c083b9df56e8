/** What a realtime session's responses are to the plan, the reservation and the ledger: requests without a body. */
import type { GatewayLimits } from "../config.ts";
import type { Call, Dialect } from "../dialects/dialect.ts";
import { openAiChat } from "../dialects/openai-chat/index.ts";
import { cannotPass } from "../dialects/openai-passing/request.ts";

const openAiRealtime: Dialect = { ...openAiChat, format: "openai-realtime" };

/** Providers count a token for 100 ms that they hear, and one for 50 ms that they speak. */
export const msPerTokenHeard = 100;
export const msPerTokenSpoken = 50;

/** What was heard and said since the last answer, as far as we saw it; in tokens. */
export type Seen = { written: number; heard: number; said: number; spoken: number };

/** One response of a session. */
export function responseCall(model: string, limits: GatewayLimits, seen: () => Seen): Call {
  return {
    ...emptyCall(model, limits.realtimeInputTokens),
    tariffs: ({ inputTokens, outputTokensMax }) => [
      [
        {
          quantity: inputTokens,
          meters: ["input_audio", "input", "input_image", "cache_read_audio", "cache_read"],
        },
        { quantity: outputTokensMax, meters: ["output_audio", "output", "reasoning"] },
      ],
      [
        { quantity: inputTokens, meters: ["input", "cache_read"] },
        { quantity: outputTokensMax, meters: ["output", "reasoning"] },
      ],
    ],
    measure({ told }) {
      if (told) return { usage: told, estimated: false };
      const { written, heard, said, spoken } = seen();
      const audio = {
        ...(heard > 0 && { input_audio: heard }),
        ...(spoken > 0 && { output_audio: spoken }),
      };
      return { usage: { input: written, output: said, ...audio }, estimated: true };
    },
  };
}

/** One turn of the client's, transcribed by a model of its own. */
export function transcriptionCall(model: string, limits: GatewayLimits, seen: () => Seen): Call {
  const heardMax = limits.realtimeInputTokens;
  return {
    ...emptyCall(model, heardMax),
    tariffs: ({ outputTokensMax }) => [
      [{ quantity: heardMax * msPerTokenHeard, meters: ["audio_ms"] }],
      [
        { quantity: heardMax, meters: ["input_audio", "input"] },
        { quantity: outputTokensMax, meters: ["output"] },
      ],
    ],
    measure({ told, output }) {
      if (told) return { usage: told, estimated: false };
      const { heard } = seen();
      const usage = {
        audio_ms: heard * msPerTokenHeard,
        input_audio: heard,
        output: Math.ceil(Buffer.byteLength(output.toString()) / 4),
      };
      return { usage, estimated: true };
    },
  };
}

function emptyCall(model: string, inputTokens: number): Call {
  const nothing = { system: "", user: "", all: [], schemas: "", unread: () => inputTokens };
  return {
    dialect: openAiRealtime,
    model,
    body: {},
    // Nobody knows beforehand how much a response will hear; this is what is reserved for it.
    bodyBytes: inputTokens,
    stream: true,
    wantsUsage: true,
    outputTokensMax: undefined,
    choices: 1,
    metadata: undefined,
    images: () => 0,
    texts: () => nothing,
    canonical() {
      throw cannotPass("openai-realtime");
    },
  };
}
