/** A response that passes, with what its client asked in place of what the provider was asked. */
import { formatSse, parseSseFrame, SseFramer } from "../../../sdk/protocol/sse.ts";
import type { StreamStep } from "../../attempts/answer-stream.ts";
import type { PassingStream, StreamSoFar } from "../../providers/format.ts";

type Facts = Readonly<Record<string, unknown>>;

export function retellAnswer(whole: unknown, facts: Facts): unknown {
  return { ...(whole as object), ...facts };
}

/** Only events that hold a whole response are written anew; all others pass as they came. */
export class RetoldStream implements PassingStream {
  readonly #stream: PassingStream;
  readonly #facts: () => Facts | undefined;
  readonly #framer: SseFramer;

  constructor(
    stream: PassingStream,
    facts: () => Facts | undefined,
    limits: { frameBytesMax: number },
  ) {
    this.#stream = stream;
    this.#facts = facts;
    this.#framer = new SseFramer(limits);
  }

  get begun() {
    return this.#stream.begun;
  }

  get usage() {
    return this.#stream.usage;
  }

  get relayed() {
    return this.#stream.relayed;
  }

  push(chunk: Uint8Array): StreamStep {
    return this.#retell(this.#stream.push(chunk));
  }

  close(): StreamStep {
    return this.#retell(this.#stream.close());
  }

  held(): Uint8Array | undefined {
    const last = this.#stream.held?.();
    const facts = this.#facts();
    return last && facts ? retellFrame(last, facts) : last;
  }

  whole(): unknown {
    const whole = this.#stream.whole?.();
    const facts = this.#facts();
    return whole && facts ? retellAnswer(whole, facts) : whole;
  }

  soFar(): StreamSoFar {
    const { next = 0, response = {} } = this.#stream.soFar?.() ?? {};
    return { next, response: { ...response, ...this.#facts() } };
  }

  /** What passes are whole frames. */
  #retell(step: StreamStep): StreamStep {
    const facts = this.#facts();
    if (!facts) return step;
    const frames = step.pass.flatMap((bytes) => this.#framer.push(bytes));
    return { ...step, pass: frames.map((frame) => retellFrame(frame, facts)) };
  }
}

function retellFrame(frame: Uint8Array, facts: Facts): Uint8Array {
  const event = parseSseFrame(frame);
  if (!event?.data.includes('"response"')) return frame;
  let json: { type?: unknown; response?: unknown };
  try {
    json = JSON.parse(event.data);
  } catch {
    return frame;
  }
  if (typeof json?.response !== "object" || json.response === null) return frame;
  const retold = { ...json, response: retellAnswer(json.response, facts) };
  return Buffer.from(formatSse(JSON.stringify(retold), String(json.type)));
}
