/** Holds a stream's beginning back, so that one that dies early is never seen and another model can be asked. */
import type { TransportResponse } from "../providers/transport.ts";
import { type AnswerStream, type StreamStep, whole } from "./answer-stream.ts";
import type { FilteredAnswer, FilterWatch } from "./filtered.ts";

export type StreamHold = {
  /** Bytes of the answer that are held; with 0 its first word is enough. */
  streamHoldBytes: number;
  /** The longest time from the first event on, such as a head without words. */
  streamHoldMs: number;
};

export type HoldOptions = StreamHold & {
  /** Present where a stream that its upstream's filter stopped is not to be seen, should another model do better. */
  watch?: FilterWatch | undefined;
};

type Held = {
  response: TransportResponse;
  first: StreamStep;
  filtered: FilteredAnswer | undefined;
};

/**
 * Reads until there is something worth saying. A healthy stream waits for its first word and no longer; one that says
 * only that it has begun is let through after a while, because proxies close what stays silent.
 * @returns what was held, as the first step, and a response that goes on after it; `filtered` where a filter stopped it
 * @throws HubError what the stream itself told as its failure while it was held
 */
export async function hold(
  response: TransportResponse,
  reader: AnswerStream,
  { streamHoldBytes, streamHoldMs, watch }: HoldOptions,
): Promise<Held> {
  const held: Uint8Array[] = [];
  let bytes = 0;
  let signs = 0;
  let timer: NodeJS.Timeout | undefined;
  let isOver: Promise<"over"> | undefined;
  try {
    for (;;) {
      const reading = response.read();
      const chunk = await (isOver ? Promise.race([reading, isOver]) : reading);
      if (chunk === "over") {
        // Its failure is met when it is asked for.
        reading.catch(() => {});
        const rest = readingOn(response, reading);
        return { response: rest, first: { pass: held }, filtered: watch?.filtered };
      }
      const step = chunk ? reader.push(chunk) : reader.close();
      watch?.push(chunk);
      const { pass, end } = step.later ? await whole(step) : step;
      const begun = reader.begun && (watch?.verdict.hasAnswer ?? true);
      const isSilent = !begun || (streamHoldBytes > 0 && bytes < streamHoldBytes);
      if (end?.error && isSilent) throw end.error;
      for (const piece of pass) {
        const isSign = piece[0] === colon;
        // Of a queue that says every few seconds that it is still there, nobody waits for each word.
        if (isSign && !begun && ++signs > signsMax) continue;
        held.push(piece);
        bytes += piece.length;
        if (!isSign) {
          isOver ??= new Promise((resolve) => {
            timer = setTimeout(() => resolve("over"), streamHoldMs);
          });
        }
      }
      // A verdict is followed by what it cost.
      const isEnough = begun && bytes >= streamHoldBytes && !watch?.verdict.isFiltered;
      if (end || isEnough || bytes > heldBytesMax) {
        const filtered = end && watch?.filtered;
        return { response, first: { pass: held, ...(end && { end }) }, filtered };
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

/** A response of which one read is under way already. */
function readingOn(
  response: TransportResponse,
  reading: Promise<Uint8Array | undefined>,
): TransportResponse {
  let next: Promise<Uint8Array | undefined> | undefined = reading;
  return {
    status: response.status,
    header: (name) => response.header(name),
    read() {
      const due = next ?? response.read();
      next = undefined;
      return due;
    },
    cancel: () => response.cancel(),
  };
}

/** Comments of server-sent events begin with it. */
const colon = 58;
const signsMax = 16;
/** What never says a word and never stops is let through, as it is. */
const heldBytesMax = 1 << 20;
