/** A stream's events on their way through a project's guardrails: what may still turn out to be a find waits. */
import type { AnswerEvent } from "../canonical/answer.ts";
import type { Detector } from "./detectors/detector.ts";
import type { Said } from "./guard.ts";
import { mapArguments, mapStrings } from "./json-strings.ts";
import { type OnMatch, replaceAll, TextStage } from "./text-stage.ts";

export type FilterStage =
  | {
      does: "find";
      detector: Detector;
      onMatch: OnMatch;
      /** Only counts what it finds, and holds nothing up. */
      passes: boolean;
    }
  /** Has to know all that was said before any of it may pass. @throws HubError where it may not */
  | { does: "hear"; onEnd: (said: Said) => Promise<void> };

export type FilterParts = {
  /** In their order; each looks at what those before it left. */
  stages: readonly FilterStage[];
  /** Puts back what was taken out of the request, where something was. */
  restore:
    | { detector: Detector; textOf: (made: string, json: boolean) => string; json: boolean }
    | undefined;
  /** `exceeded` is called once for each. */
  charsMax: readonly { max: number; exceeded: () => void }[];
};

type TextEvent = Extract<AnswerEvent, { type: "text" | "refusal" | "reasoning" }>;
type Citation = Extract<AnswerEvent, { type: "citation" }>;

/** What is being said in a choice. */
type Open =
  | { key: string; last: TextEvent; text: Pipeline; citations: Citation[] }
  | { key: string; call: number; custom: boolean; pieces: string[] };

export class AnswerFilter {
  /** Whether the answer has to be whole before any of it may pass. */
  readonly isHeld: boolean;
  readonly #parts: FilterParts;
  readonly #heard: Heard[];
  readonly #open = new Map<number, Open>();
  readonly #custom = new Set<string>();
  #chars = 0;
  #exceeded = new Set<object>();

  constructor(parts: FilterParts) {
    this.#parts = parts;
    this.#heard = parts.stages.flatMap((stage) =>
      stage.does === "hear" ? [new Heard(stage)] : [],
    );
    this.isHeld = this.#heard.length > 0;
  }

  /** Of a stream that was held until it was whole. @throws HubError where it may not pass */
  async checkHeld(): Promise<void> {
    for (const { stage, said } of this.#heard) await stage.onEnd(said);
  }

  /** @throws HubError where a guard blocks; nothing after it may pass */
  pass(event: AnswerEvent): AnswerEvent[] {
    if ("text" in event) this.#count(event.text.length);
    switch (event.type) {
      case "start":
      case "usage":
        return [event];
      case "end":
      case "error":
        return [...[...this.#open.keys()].flatMap((choice) => this.#close(choice)), event];
      case "finish":
      case "reasoning_seal":
        return [...this.#close(event.choice), event];
      case "tool_call": {
        if (event.custom) this.#custom.add(`${event.choice}:${event.call}`);
        return [...this.#close(event.choice), { ...event, name: this.#whole(event.name) }];
      }
      case "citation":
        return this.#cite(event);
      case "tool_arguments":
        return this.#argue(event);
      case "text":
      case "refusal":
      case "reasoning":
        return this.#say(event);
      default:
        return event satisfies never;
    }
  }

  /** Log-probabilities tell the tokens, and go. */
  #say(event: TextEvent): AnswerEvent[] {
    const { choice, type } = event;
    const told = withText(event, event.text);
    const before = this.#switchTo(choice, type);
    let open = this.#open.get(choice);
    if (!open || "call" in open) {
      const text = new Pipeline(this.#parts, this.#heard, type !== "reasoning");
      open = { key: type, last: told, text, citations: [] };
      this.#open.set(choice, open);
    }
    open.last = told;
    const text = open.text.push(event.text);
    return text === "" ? before : [...before, withText(event, text)];
  }

  /** Arguments pass when they are whole: only then it is known what the JSON stands for. */
  #argue({ choice, call, text }: Extract<AnswerEvent, { type: "tool_arguments" }>): AnswerEvent[] {
    const key = `call ${call}`;
    const before = this.#switchTo(choice, key);
    const open = this.#open.get(choice);
    if (open && "call" in open) open.pieces.push(text);
    else {
      const custom = this.#custom.has(`${choice}:${call}`);
      this.#open.set(choice, { key, call, custom, pieces: [text] });
    }
    return before;
  }

  #cite(event: Citation): AnswerEvent[] {
    const citation = mapStrings(event.citation, (text) => this.#whole(text));
    const open = this.#open.get(event.choice);
    if (!open || "call" in open) return [{ ...event, citation }];
    // What it is about may still wait.
    open.citations.push({ ...event, citation });
    return [];
  }

  #switchTo(choice: number, key: string): AnswerEvent[] {
    const open = this.#open.get(choice);
    return open && open.key !== key ? this.#close(choice) : [];
  }

  #close(choice: number): AnswerEvent[] {
    const open = this.#open.get(choice);
    if (!open) return [];
    this.#open.delete(choice);
    if ("call" in open) {
      const text = this.#wholeArguments(open.pieces.join(""), open.custom);
      return text === "" ? [] : [{ type: "tool_arguments", choice, call: open.call, text }];
    }
    const text = open.text.end();
    return [...(text === "" ? [] : [withText(open.last, text)]), ...open.citations];
  }

  /** JSON that stands in a text is looked at as the values that it stands for. */
  #wholeArguments(text: string, custom: boolean): string {
    const { restore } = this.#parts;
    const map = (whole: string, one: (text: string, json: boolean) => string) =>
      custom ? one(whole, false) : mapArguments(whole, (said, { json }) => one(said, json));
    let said = text;
    let heard = 0;
    for (const stage of this.#parts.stages) {
      if (stage.does === "hear") this.#heard[heard++]?.hear(said, false);
      else said = map(said, (one) => replaceAll(one, stage.detector, stage.onMatch));
    }
    return restore
      ? map(said, (one, json) =>
          replaceAll(one, restore.detector, (made) => restore.textOf(made, json)),
        )
      : said;
  }

  /** A text beside what is said. */
  #whole(text: string): string {
    const { stages, restore } = this.#parts;
    const passed = stages.reduce(
      (said, stage) =>
        stage.does === "find" ? replaceAll(said, stage.detector, stage.onMatch) : said,
      text,
    );
    return restore
      ? replaceAll(passed, restore.detector, (made) => restore.textOf(made, false))
      : passed;
  }

  #count(chars: number): void {
    this.#chars += chars;
    for (const limit of this.#parts.charsMax) {
      if (this.#chars <= limit.max || this.#exceeded.has(limit)) continue;
      this.#exceeded.add(limit);
      limit.exceeded();
    }
  }
}

/** What one guard hears of an answer. */
class Heard {
  readonly stage: Extract<FilterStage, { does: "hear" }>;
  readonly said = { all: "", text: "" };

  constructor(stage: Extract<FilterStage, { does: "hear" }>) {
    this.stage = stage;
  }

  hear(text: string, isTold: boolean): void {
    this.said.all += text;
    if (isTold) this.said.text += text;
  }
}

type Step = { push: (text: string) => string; end: (rest: string) => string };

/** All stages of one text, one after the other. */
class Pipeline {
  readonly #steps: Step[];

  /** @param isTold whether it is said to people */
  constructor({ stages, restore }: FilterParts, heard: readonly Heard[], isTold: boolean) {
    let hearing = 0;
    this.#steps = stages.map((stage) => {
      if (stage.does === "find") return finding(stage);
      const one = heard[hearing++];
      const hear = (text: string) => {
        one?.hear(text, isTold);
        return text;
      };
      return { push: hear, end: hear };
    });
    if (!restore) return;
    const { detector, textOf, json } = restore;
    this.#steps.push(finding({ detector, onMatch: (made) => textOf(made, json), passes: false }));
  }

  push(text: string): string {
    return this.#steps.reduce((said, { push }) => push(said), text);
  }

  end(): string {
    return this.#steps.reduce((rest, { end }) => end(rest), "");
  }
}

function finding({
  detector,
  onMatch,
  passes,
}: Omit<Extract<FilterStage, { does: "find" }>, "does">): Step {
  const stage = new TextStage(detector, onMatch);
  const push = (text: string) => {
    const passed = stage.push(text);
    return passes ? text : passed;
  };
  return {
    push,
    end(rest) {
      const passed = stage.push(rest) + stage.end();
      return passes ? rest : passed;
    },
  };
}

function withText(event: TextEvent, text: string): TextEvent {
  if (event.type !== "text") return { ...event, text };
  const { type, choice } = event;
  return { type, choice, text };
}
