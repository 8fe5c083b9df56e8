/** OpenAI's moderations, images and audio, as upstreams speak them: what of each answer has to be known. */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { MediaFormatName, PassingAnswer, PassingFormat, PassingHead } from "../format.ts";
import { EventStream } from "./event-stream.ts";
import { addUsage, readMediaUsage } from "./media-usage.ts";
import { noAnswer, parseJson } from "./response.ts";
import { openSpeech } from "./speech-stream.ts";

const events = /^text\/event-stream\b/i;
const untoldOfImages = { input: "text", output: "image" } as const;
const untoldOfTranscripts = { input: "audio", output: "text" } as const;

function images(name: MediaFormatName): PassingFormat {
  return {
    name,
    streamType: events,
    readPassing: readImages,
    openPassing: (options) =>
      new EventStream({
        ...options,
        frameBytesMax: options.mediaFrameBytesMax ?? options.frameBytesMax,
        isLast: (type) => /^image_(?:generation|edit)\.completed$/.test(type),
        readUsage: ({ usage }) =>
          addUsage(readMediaUsage(usage, untoldOfImages), {
            usage: { images: 1 },
            inconsistent: false,
          }),
        textOf: () => "",
      }),
  };
}

function transcripts(name: MediaFormatName): PassingFormat {
  return {
    name,
    streamType: events,
    readPassing: readTranscript,
    openPassing: (options) =>
      new EventStream({
        ...options,
        isLast: (type) => type === "transcript.text.done",
        readUsage: ({ usage }) => readMediaUsage(usage, untoldOfTranscripts),
        textOf: ({ type, delta }) =>
          type === "transcript.text.delta" && typeof delta === "string" ? delta : "",
      }),
  };
}

const moderations: PassingFormat = {
  name: "openai-moderations",
  streamType: /^$/,
  readPassing(bytes) {
    const json = parseJson(bytes);
    if (!moderation.safeParse(json).success) throw noAnswer(json, "no moderation");
    return { usage: undefined, text: "" };
  },
  openPassing: noStream,
};

const speech: PassingFormat = {
  name: "openai-speech",
  streamType: /^(?:audio\/|application\/octet-stream\b|text\/event-stream\b)/i,
  readPassing: (bytes) => {
    throw noAnswer(parseJson(bytes), "no audio");
  },
  openPassing: openSpeech,
};

const everything = {
  "openai-moderations": moderations,
  "openai-image-generations": images("openai-image-generations"),
  "openai-image-edits": images("openai-image-edits"),
  "openai-image-variations": images("openai-image-variations"),
  "openai-speech": speech,
  "openai-transcriptions": transcripts("openai-transcriptions"),
  "openai-translations": transcripts("openai-translations"),
} satisfies Record<MediaFormatName, PassingFormat>;

export const openAiMedia: readonly PassingFormat[] = Object.values(everything);

export function openAiMediaOf(names: readonly MediaFormatName[]): PassingFormat[] {
  return names.map((name) => everything[name]);
}

/** Under the upstream's base URL. */
export const mediaPaths: Readonly<Record<MediaFormatName, string>> = {
  "openai-moderations": "/moderations",
  "openai-image-generations": "/images/generations",
  "openai-image-edits": "/images/edits",
  "openai-image-variations": "/images/variations",
  "openai-speech": "/audio/speech",
  "openai-transcriptions": "/audio/transcriptions",
  "openai-translations": "/audio/translations",
};

/** @throws HubError `upstream_error` */
function readImages(bytes: Uint8Array): PassingAnswer {
  const json = parseJson(bytes);
  const answer = imagesAnswer.safeParse(json);
  if (!answer.success) throw noAnswer(json, "no images");
  const { data, usage } = answer.data;
  const made = { usage: { images: data.length }, inconsistent: false };
  return { usage: addUsage(readMediaUsage(usage, untoldOfImages), made), text: "" };
}

/** JSON of one form or another, or a text, subtitles. @throws HubError `upstream_error` */
function readTranscript(
  bytes: Uint8Array,
  { contentType = "application/json" }: PassingHead,
): PassingAnswer {
  if (!/^application\/json\b/i.test(contentType)) {
    if (!/^text\/(?!html)|^application\/(?:x-subrip|octet-stream)\b/i.test(contentType)) {
      throw new HubError("upstream_error", "The upstream's answer is no transcript.");
    }
    return { usage: undefined, text: Buffer.from(bytes).toString("utf8"), contentType };
  }
  const json = parseJson(bytes);
  const answer = transcriptAnswer.safeParse(json);
  if (!answer.success) throw noAnswer(json, "no transcript");
  const { text, usage, duration } = answer.data;
  const told = readMediaUsage(usage, untoldOfTranscripts);
  const seconds = readMediaUsage(
    { type: "duration", seconds: Number(duration) },
    untoldOfTranscripts,
  );
  return { usage: told ?? seconds, text };
}

function noStream(): never {
  throw new HubError("upstream_error", "The upstream answered with a stream where there are none.");
}

const moderation = z.object({ results: z.array(z.looseObject({})) });
const imagesAnswer = z.object({
  data: z.array(z.looseObject({})).min(1),
  usage: z.unknown().optional(),
});
const transcriptAnswer = z.object({
  text: z.string(),
  usage: z.unknown().optional(),
  /** Of the verbose form; a text at OpenAI, a number at others. */
  duration: z
    .union([z.string().max(32), z.number()])
    .nullish()
    .catch(undefined),
});
