/** What was said in one request, as it is kept: redacted, compressed, not yet sealed. */
import { promisify } from "node:util";
import { deflateRaw, inflateRaw } from "node:zlib";
import { z } from "zod";
import type { ContentLogSetting } from "../../sdk/protocol/content-log.ts";
import type { Answer } from "../canonical/answer.ts";
import type { OutputPart } from "../canonical/request.ts";
import type { Call } from "../dialects/dialect.ts";
import type { Heard } from "./hearing.ts";
import { contentDetector, redact } from "./redact.ts";

export type Said = {
  dialect: string;
  stream: boolean;
  /** The whole request, for its prompt; absent where none is kept. */
  call: Call | undefined;
  setting: ContentLogSetting;
  /** What the answer was; absent where none came, or none is kept. */
  heard: Heard | undefined;
  /** The model's words, for answers that are read no further. */
  text: { toString(): string };
  /** Whether the answer came to its end. */
  complete: boolean;
};

/** @throws HubError of a guardrail that the prompt is too long for */
export async function writeDocument(
  { dialect, stream, call, setting, heard, text, complete }: Said,
  charsMax: number,
): Promise<{ bytes: Buffer; truncated: boolean }> {
  const { parts, redact: kinds } = setting;
  const detector = contentDetector(kinds);
  const wanted = {
    prompt: call && sentOf(call),
    answer: parts.includes("answer") ? answerOf(heard, text) : undefined,
  };
  const redacted: Record<string, number> = {};
  const kept: Record<string, unknown> = {};
  let truncated = heard?.truncated ?? false;
  for (const [part, value] of Object.entries(wanted)) {
    if (value === undefined) continue;
    const one = await redact(value, { detector, charsMax });
    kept[part] = one.value;
    truncated ||= one.truncated;
    for (const [kind, count] of Object.entries(one.found)) {
      redacted[kind] = (redacted[kind] ?? 0) + count;
    }
  }
  const document: ContentDocument = {
    dialect,
    stream,
    complete,
    redacted,
    ...kept,
  };
  return { bytes: await deflate(JSON.stringify(document)), truncated };
}

/** @throws Error for what was not written here */
export async function readDocument(bytes: Uint8Array): Promise<ContentDocument> {
  const json = await inflate(bytes, { maxOutputLength: documentBytesMax });
  return contentDocument.parse(JSON.parse(json.toString("utf8")));
}

/** The request in its client's dialect, without what guardrails took out of it: providers saw no more. */
function sentOf(call: Call): unknown {
  const body = call.passed?.() ?? call.body;
  return call.guard?.mask(body) ?? body;
}

/** What the provider said, before guardrails put back into it what they had taken out. */
function answerOf(heard: Heard | undefined, text: Said["text"]): unknown {
  if (!heard) return undefined;
  const told = () => ({ text: String(text) });
  // The beginning of a whole answer is no JSON; of a stream it is events.
  if (heard.truncated && !heard.stream) return told();
  let answer: ReturnType<Heard["read"]>;
  try {
    answer = heard.read(heard.bytes);
  } catch {
    return told();
  }
  if (!answer) return told();
  return "choices" in answer ? plainChoices(answer) : { body: withoutRepeats(answer.body) };
}

/** Log-probabilities tell a text again in pieces, and seals mean something to their makers alone. */
function plainChoices({ id, model, choices }: Answer): unknown {
  return {
    id,
    model,
    choices: choices.map(({ parts, finish, stopSequence }) => ({
      parts: parts.map(plainPart),
      finish,
      stopSequence,
    })),
  };
}

function plainPart(part: OutputPart): unknown {
  const {
    signature: _signature,
    encrypted: _encrypted,
    ...plain
  } = {
    signature: undefined,
    encrypted: undefined,
    ...part,
  };
  return plain;
}

/** Words and tokens of answers that pass as they are stand in them a second time, each on its own. */
function withoutRepeats(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutRepeats);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, one]) =>
      repeats.has(name) ? [] : [[name, withoutRepeats(one)]],
    ),
  );
}

const repeats: ReadonlySet<string> = new Set(["logprobs", "words", "tokens", "embedding"]);

const contentDocument = z.object({
  dialect: z.string(),
  stream: z.boolean(),
  complete: z.boolean(),
  /** What was taken out of it, by kind. */
  redacted: z.record(z.string(), z.int()),
  prompt: z.unknown().optional(),
  answer: z.unknown().optional(),
});
export type ContentDocument = z.infer<typeof contentDocument>;

const deflate = promisify<string, Buffer>(deflateRaw);
const inflate = promisify<Uint8Array, { maxOutputLength: number }, Buffer>(inflateRaw);
/** Beyond what any bound of the gateway lets be written. */
const documentBytesMax = 256 << 20;
