/** `POST /v1/audio/speech`: a text spoken, as bytes or as events. */
import { z } from "zod";
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { Answered, Call, Dialect } from "../dialect.ts";
import {
  guessTokens,
  type MediaParts,
  mediaDialect,
  readJsonFields,
  readMediaCall,
} from "./call.ts";

/** Between bytes of audio nothing can be said: not that one is still there, and no error. */
export const openAiSpeech: Dialect = {
  ...mediaDialect("openai-speech"),
  streamType: "audio/mpeg",
  keepAlive: undefined,
  endOfStream: () => undefined,
};
const openAiSpeechEvents = mediaDialect("openai-speech");

/** @throws HubError naming the field */
export async function readSpeechCall(request: Request, parts: MediaParts): Promise<Call> {
  const came = await readJsonFields(request, parts);
  const { input, instructions, stream_format } = parseOrThrow(speechRequest, came.fields);
  const characters = countCharacters(input);
  const asked = guessTokens(Buffer.byteLength(input) + Buffer.byteLength(instructions ?? ""));
  const dialect = stream_format === "sse" ? openAiSpeechEvents : openAiSpeech;
  return readMediaCall(came, dialect, () => ({
    texts: [input, instructions ?? ""],
    stream: true,
    outputTokensMax: characters * audioTokensPerCharacterMax,
    tariffs: ({ inputTokens }) => [
      [{ quantity: characters, meters: ["characters"] }],
      [
        { quantity: inputTokens, meters: ["input", "cache_read"] },
        { quantity: characters * audioTokensPerCharacterMax, meters: ["output_audio", "output"] },
      ],
    ],
    measure: (answered) => measure(answered, { characters, asked }),
  }));
}

/** Characters are known beforehand; tokens are told by events alone, and of bytes they are a guess. */
function measure(
  { told, isPriced }: Answered,
  { characters, asked }: { characters: number; asked: number },
) {
  if (told) return { usage: { ...told, characters }, estimated: false };
  if (isPriced("characters")) return { usage: { characters }, estimated: false };
  const output_audio = Math.ceil(characters * audioTokensPerCharacter);
  return { usage: { input: asked, output_audio, characters }, estimated: true };
}

/** Of Unicode; what JavaScript counts is more. */
function countCharacters(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** People speak about 15 characters a second, and OpenAI's voices a token in 50 ms; the slowest a quarter as fast. */
const audioTokensPerCharacter = 20 / 15;
const audioTokensPerCharacterMax = 6;

export const speechRequest = z.looseObject({
  input: z
    .string()
    .min(1)
    .max(1 << 20),
  instructions: z
    .string()
    .max(1 << 20)
    .nullish(),
  stream_format: z.enum(["sse", "audio"]).nullish(),
});
