/** Reads a response's stream as it is relayed: frames pass unchanged, but for the last, which waits until all is settled. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { parseSseFrame, SseFramer } from "../../../sdk/protocol/sse.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import {
  type PassingStream,
  type Relayed,
  RelayedSoFar,
  type StreamLimits,
  type StreamSoFar,
} from "../format.ts";
import { readErrorFrame } from "../openai/errors.ts";
import { usageOf } from "./reader.ts";
import { responseObject } from "./schema.ts";

export class ResponsesStream implements PassingStream {
  begun = false;
  usage: ReadUsage | undefined;
  readonly relayed: Relayed;
  readonly #framer: SseFramer;
  readonly #textCharsMax: number;
  #text = "";
  #last: Uint8Array | undefined;
  #whole: unknown;
  /** The newest event that has passed. */
  #newest: Uint8Array | undefined;
  #response: StreamSoFar["response"] = {};

  constructor({ frameBytesMax, relayedTextCharsMax }: StreamLimits) {
    this.#framer = new SseFramer({ frameBytesMax });
    this.#textCharsMax = relayedTextCharsMax;
    this.relayed = new RelayedSoFar(() => this.#text);
  }

  push(chunk: Uint8Array): StreamStep {
    try {
      return this.#relay(this.#framer.push(chunk));
    } catch (cause) {
      return { pass: [], end: { error: cut("sent an event that is too large", cause) } };
    }
  }

  close(): StreamStep {
    const rest = this.#framer.end();
    const step = parseSseFrame(rest)
      ? this.#relay([Buffer.concat([rest, Buffer.from("\n\n")])])
      : { pass: [] };
    return step.end ? step : { ...step, end: { error: cut("ended its stream in the middle") } };
  }

  held(): Uint8Array | undefined {
    return this.#last;
  }

  whole(): unknown {
    return this.#whole;
  }

  soFar(): StreamSoFar {
    const newest = this.#newest && parseSseFrame(this.#newest);
    const { sequence_number: number } = (parseJson(newest?.data ?? "") ?? {}) as Numbered;
    return {
      next: typeof number === "number" ? number + 1 : 0,
      response: this.#response,
    };
  }

  #relay(frames: readonly Uint8Array[]): StreamStep {
    const pass: Uint8Array[] = [];
    for (const frame of frames) {
      const event = parseSseFrame(frame);
      // By its name alone where that is enough; only deltas and the end are looked into.
      const type = event?.event ?? (event && typeOf(event.data));
      if (event && type !== undefined) {
        if (endings.has(type)) return { pass, end: this.#end(frame, type, event.data) };
        if (deltas.has(type) && this.#text.length < this.#textCharsMax) {
          this.#text += readDelta(event.data);
        }
        if (type === "response.created") this.#response = namesOf(event.data);
        this.#newest = frame;
        this.begun ||= type !== "response.created" && type !== "response.in_progress";
      }
      pass.push(frame);
    }
    return { pass: pass.length > 1 ? [Buffer.concat(pass)] : pass };
  }

  #end(frame: Uint8Array, type: string, data: string): { error?: HubError } {
    const json = parseJson(data) as { response?: unknown; message?: unknown; error?: unknown };
    const response = responseObject.safeParse(json?.response).data;
    this.usage = response && usageOf(response);
    if (type === "error" || type === "response.failed") {
      if (response) this.#response = json.response as StreamSoFar["response"];
      const told = json?.error ?? response?.error ?? { message: json?.message ?? "no message" };
      return { error: readErrorFrame({ error: told }) ?? cut("broke off the answer") };
    }
    this.#last = frame;
    this.#whole = json?.response;
    return {};
  }
}

type Numbered = { sequence_number?: unknown };

/** Little of it, because it repeats all of a long request. */
function namesOf(data: string): StreamSoFar["response"] {
  const { response } = (parseJson(data) ?? {}) as { response?: Record<string, unknown> };
  const names = ["id", "created_at", "model"].map((name) => [name, response?.[name]] as const);
  return Object.fromEntries(names.filter(([, value]) => value != null));
}

function readDelta(data: string): string {
  const { delta } = (parseJson(data) ?? {}) as { delta?: unknown };
  return typeof delta === "string" ? delta : "";
}

function typeOf(data: string): string | undefined {
  const { type } = (parseJson(data) ?? {}) as { type?: unknown };
  return typeof type === "string" ? type : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function cut(what: string, cause?: unknown): HubError {
  return new HubError("upstream_error", `The upstream ${what}.`, { cause });
}

const endings: ReadonlySet<string> = new Set([
  "response.completed",
  "response.incomplete",
  "response.failed",
  "error",
]);
const deltas: ReadonlySet<string> = new Set([
  "response.output_text.delta",
  "response.refusal.delta",
  "response.function_call_arguments.delta",
  "response.custom_tool_call_input.delta",
  "response.reasoning_summary_text.delta",
  "response.reasoning_text.delta",
]);
