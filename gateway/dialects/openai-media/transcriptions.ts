/** `POST /v1/audio/transcriptions` and `/v1/audio/translations`: what is said in an audio file. */
import { z } from "zod";
import { parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { GatewayLimits } from "../../config.ts";
import type { Answered, Call, Dialect } from "../dialect.ts";
import { audioDurationMs } from "./audio-duration.ts";
import {
  formTruth,
  guessTokens,
  type MediaParts,
  mediaDialect,
  readFormFields,
  readMediaCall,
  requireFiles,
} from "./call.ts";

export const openAiTranscriptions = mediaDialect("openai-transcriptions");
export const openAiTranslations = mediaDialect("openai-translations");

/** @throws HubError naming the field */
export const readTranscriptionsCall = (request: Request, parts: MediaParts): Promise<Call> =>
  readAudioCall(request, openAiTranscriptions, parts);

/** @throws HubError naming the field */
export const readTranslationsCall = (request: Request, parts: MediaParts): Promise<Call> =>
  readAudioCall(request, openAiTranslations, parts);

async function readAudioCall(request: Request, dialect: Dialect, parts: MediaParts): Promise<Call> {
  const came = await readFormFields(request, parts);
  return readMediaCall(came, dialect, () => {
    const { form, fields, bytes } = came;
    requireFiles(form, /^file$/, "file");
    const { prompt, stream } = parseOrThrow(audioRequest, fields);
    const { ms, msMax } = durationOf(form?.files ?? [], parts.limits);
    const heard = Math.ceil(msMax / msPerAudioToken);
    return {
      texts: [prompt ?? ""],
      stream,
      // What is heard is input as much as what is written.
      bodyBytes: bytes + heard,
      unread: heard,
      tariffs: ({ outputTokensMax }) => [
        [{ quantity: msMax, meters: ["audio_ms"] }],
        [
          { quantity: heard + bytes, meters: ["input_audio", "input", "cache_read_audio"] },
          { quantity: outputTokensMax, meters: ["output", "reasoning"] },
        ],
      ],
      measure: (answered) => measure(answered, { ms, asked: guessTokens(bytes) }),
    };
  });
}

/** Subtitles tell when their last line ends; else it is as long as the file seems to be. */
function measure({ told, output }: Answered, { ms, asked }: { ms: number; asked: number }) {
  if (told) return { usage: told, estimated: false };
  const text = output.toString();
  const lasts = Math.max(lastCueMs(text) ?? ms, 1);
  const usage = {
    audio_ms: lasts,
    input_audio: Math.ceil(lasts / msPerAudioToken),
    input: asked,
    output: guessTokens(Buffer.byteLength(text)),
  };
  return { usage, estimated: true };
}

/** @returns the end of the last cue of SubRip or WebVTT */
function lastCueMs(text: string): number | undefined {
  const cues = text.slice(-cueCharsMax).matchAll(cueEnd);
  const cue = [...cues].at(-1);
  if (!cue) return undefined;
  const [, hours = "0", minutes = "0", seconds = "0", ms = "0"] = cue;
  return ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000 + Number(ms);
}

function durationOf(
  files: readonly { bytes: number; head: Buffer }[],
  { audioBytesPerSecond, audioBytesPerSecondMin }: GatewayLimits,
) {
  let [ms, msMax] = [0, 0];
  for (const { bytes, head } of files) {
    const told = audioDurationMs(head, bytes);
    ms += told ?? Math.ceil((bytes / audioBytesPerSecond) * 1000);
    // A header may lie, but not about more than what would be told afterwards.
    msMax += Math.max(told ?? 0, Math.ceil((bytes / audioBytesPerSecondMin) * 1000));
  }
  return { ms, msMax };
}

/** OpenAI's: a token for 100 ms that are heard. */
const msPerAudioToken = 100;
const cueEnd = /-->\s*(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{3})/g;
const cueCharsMax = 16 << 10;

export const audioRequest = z.looseObject({
  prompt: z.string().nullish(),
  stream: formTruth,
});
