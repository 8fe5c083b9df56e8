/** Finds what an upstream's own filter did to an answer, which providers tell inside a good one, with status 200. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { AnswerEvent, EventReader } from "../canonical/answer.ts";
import type { ReadUsage } from "../ledger/usage.ts";

/** Its filter left nothing of an answer, or cut it off, before the client has seen any of it. */
export class FilteredAnswer extends HubError {
  /** What the upstream says that it used all the same. */
  readonly usage: ReadUsage | undefined;

  constructor(upstream: string, usage: ReadUsage | undefined) {
    super(
      "content_filter",
      `The content filter of the upstream '${upstream}' stopped the answer before it was given.`,
    );
    this.usage = usage;
  }
}

/** Follows an answer's events. Where there are several choices, one that was not filtered is an answer. */
class FilterVerdict {
  /** Something was said, or an answer ended for another reason: there is something to give. */
  hasAnswer = false;
  usage: ReadUsage | undefined;
  readonly #open = new Set<number>();
  #filtered = 0;
  #other = 0;

  /** Whether all that there is was ended by a filter. */
  get isFiltered(): boolean {
    return this.#filtered > 0 && this.#other === 0 && this.#open.size === 0;
  }

  follow(events: readonly AnswerEvent[]): void {
    for (const [at, event] of events.entries()) {
      switch (event.type) {
        case "start":
        case "error":
        case "end":
          break;
        case "usage":
          this.usage = event.usage;
          break;
        case "finish":
          this.#open.delete(event.choice);
          if (isFilters(event)) this.#filtered++;
          else {
            this.#other++;
            this.hasAnswer = true;
          }
          break;
        case "refusal":
          this.#open.add(event.choice);
          // An explanation that comes with the verdict is none of the model's words.
          if (!events.slice(at + 1).some(isFilters)) this.hasAnswer = true;
          break;
        default:
          this.#open.add(event.choice);
          this.hasAnswer = true;
      }
    }
  }
}

/** The verdict on a stream, which is read beside its way to the client until that begins. */
export class FilterWatch {
  readonly verdict = new FilterVerdict();
  readonly #upstream: string;
  readonly #reader: EventReader;

  constructor(upstream: string, reader: EventReader) {
    this.#upstream = upstream;
    this.#reader = reader;
  }

  /** @param chunk absent when the upstream closed its stream */
  push(chunk: Uint8Array | undefined): void {
    try {
      this.verdict.follow(chunk ? this.#reader.push(chunk) : this.#reader.close());
    } catch {
      // What cannot be read here is told by whoever passes it.
      this.verdict.hasAnswer = true;
    }
  }

  get filtered(): FilteredAnswer | undefined {
    const { isFiltered, usage } = this.verdict;
    return isFiltered ? new FilteredAnswer(this.#upstream, usage) : undefined;
  }
}

/** What a whole answer is where a filter ended all of its choices. */
export function filteredIn(
  upstream: string,
  readEvents: () => readonly AnswerEvent[],
): FilteredAnswer | undefined {
  const verdict = new FilterVerdict();
  try {
    verdict.follow(readEvents());
  } catch {
    return undefined;
  }
  return verdict.isFiltered ? new FilteredAnswer(upstream, verdict.usage) : undefined;
}

/** Somebody's filter, or a model that is made to decline in its place, as Anthropic's are. */
function isFilters(event: AnswerEvent): boolean {
  return (
    event.type === "finish" && (event.reason === "content_filter" || event.reason === "refusal")
  );
}
