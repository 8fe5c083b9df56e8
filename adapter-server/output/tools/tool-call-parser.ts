/** Finds tool calls in what a model says, however its text is cut into pieces. */
import { CallReader } from "./call-reader.ts";
import { type CallMarks, marksOf, type ToolFormat } from "./formats.ts";

/** Text for the client, a call's begin, and pieces of its arguments, which are `{}` where a call has none. */
export type ToolEvent =
  | { type: "text"; text: string }
  | { type: "call"; index: number; name: string }
  | { type: "arguments"; index: number; text: string };

type State = "start" | "text" | "between" | "name" | "call" | "plain call" | "done";

export class ToolCallParser {
  readonly #marks: CallMarks;
  readonly #callsMax: number;
  readonly #forced: boolean;
  #state: State = "start";
  /** Text that may still turn out to begin a mark. */
  #held = "";
  /** White space before it, which is text where no call follows. */
  #space = "";
  #reader: CallReader | undefined;
  #calls = 0;
  /** Of the call under way: whether its arguments have begun. */
  #argued = false;
  /** Of a call whose name stands before its arguments: the name, then how deep the arguments are. */
  #name = "";
  #plain = { depth: 0, inString: false, escaped: false };

  /**
   * @param options.forced whether the answer is calls alone, as a grammar makes it
   * @param options.callsMax later calls are not told
   */
  constructor(format: ToolFormat, options: { forced: boolean; callsMax: number }) {
    this.#marks = marksOf[format];
    this.#callsMax = options.callsMax;
    this.#forced = options.forced;
    if (options.forced && this.#marks.control) this.#state = "between";
  }

  /** How many calls there have been. */
  get calls(): number {
    return this.#calls;
  }

  push(piece: string): ToolEvent[] {
    const events: ToolEvent[] = [];
    for (const character of piece) this.#take(character, events);
    return joined(events);
  }

  /** What was held back, at the end of the output. */
  flush(): ToolEvent[] {
    const events: ToolEvent[] = [];
    if (this.#state === "call" && this.#reader && this.#reader.name === undefined) {
      // Of an answer that is calls alone, the begin of one that was cut off is no text.
      if (!this.#forced) this.#say(this.#reader.raw, events);
    } else if (this.#state === "name") this.#say(this.#name, events);
    else if (this.#state === "text" && this.#held !== "")
      this.#say(this.#space + this.#held, events);
    if (this.#state === "plain call" && !this.#argued) this.#argue("{}", events);
    this.#held = "";
    this.#space = "";
    this.#state = "done";
    return joined(events);
  }

  #take(character: string, events: ToolEvent[]): void {
    switch (this.#state) {
      case "start":
        this.#atStart(character, events);
        return;
      case "text":
        this.#inText(character, events);
        return;
      case "between":
        this.#between(character, events);
        return;
      case "name":
        this.#inName(character, events);
        return;
      case "call":
        this.#inCall(character, events);
        return;
      case "plain call":
        this.#inPlainCall(character, events);
        return;
      default:
        return;
    }
  }

  /** A call may stand there without its mark. */
  #atStart(character: string, events: ToolEvent[]): void {
    if (/\s/.test(character)) {
      this.#space += character;
      return;
    }
    if (this.#marks.bare && character === "{") {
      this.#beginCall(character, events);
      return;
    }
    this.#state = "text";
    this.#inText(character, events);
  }

  #inText(character: string, events: ToolEvent[]): void {
    const { start } = this.#marks;
    if (/\s/.test(character)) {
      // No mark has white space in it. There may be very much, so it is never looked through again.
      if (this.#held !== "") this.#sayHeld(this.#held.length, events);
      this.#space += character;
      return;
    }
    this.#held += character;
    if (this.#held === start) {
      this.#held = "";
      this.#space = "";
      this.#state = "between";
      return;
    }
    const certain = this.#held.length - markBegun(this.#held, start);
    if (certain > 0) this.#sayHeld(certain, events);
  }

  /** So many characters of what was held are text, and so is the white space before them. */
  #sayHeld(count: number, events: ToolEvent[]): void {
    this.#say(this.#space + this.#held.slice(0, count), events);
    this.#space = "";
    this.#held = this.#held.slice(count);
  }

  #between(character: string, events: ToolEvent[]): void {
    const { start, end } = this.#marks;
    if (character === "{") {
      this.#beginCall(character, events);
      return;
    }
    this.#held += character;
    const seen = this.#held.trimStart();
    // Some models write the mark before each call.
    if (seen === start) this.#held = "";
    if (seen !== "" && start.startsWith(seen)) return;
    if (end !== undefined && seen === end) {
      this.#held = "";
      this.#state = this.#calls >= this.#callsMax ? "done" : "text";
      return;
    }
    if (/^[\s,;[\]]*$/.test(this.#held)) {
      this.#held = "";
      return;
    }
    if (end?.startsWith(seen)) return;
    if (end === undefined && /[A-Za-z0-9_-]/.test(character)) {
      this.#name = character;
      this.#held = "";
      this.#state = "name";
      return;
    }
    this.#state = "text";
    const rest = this.#calls > 0 ? seen : this.#held;
    this.#held = "";
    for (const one of rest) this.#take(one, events);
  }

  /** `name{…}`, or `name[ARGS]{…}`. */
  #inName(character: string, events: ToolEvent[]): void {
    if (character !== "{") {
      this.#name += character;
      if (this.#name.length <= nameCharsMax) return;
      this.#state = "text";
      this.#say(this.#name, events);
      return;
    }
    const name = this.#name.replace(/\[ARGS\]$/, "").trim();
    this.#plain = { depth: 0, inString: false, escaped: false };
    this.#argued = false;
    this.#state = "plain call";
    this.#open(name, events);
    this.#inPlainCall(character, events);
  }

  #inPlainCall(character: string, events: ToolEvent[]): void {
    const plain = this.#plain;
    this.#argue(character, events);
    if (plain.inString) {
      if (plain.escaped) plain.escaped = false;
      else if (character === "\\") plain.escaped = true;
      else if (character === '"') plain.inString = false;
    } else if (character === '"') plain.inString = true;
    else if (character === "{" || character === "[") plain.depth++;
    else if (character === "}" || character === "]") plain.depth--;
    if (plain.depth === 0) this.#endCall();
  }

  #beginCall(character: string, events: ToolEvent[]): void {
    this.#held = "";
    this.#space = "";
    this.#reader = new CallReader();
    this.#argued = false;
    this.#state = "call";
    this.#inCall(character, events);
  }

  #inCall(character: string, events: ToolEvent[]): void {
    const reader = this.#reader;
    if (!reader) return;
    for (const part of reader.push(character)) {
      if (part.type === "name") this.#open(part.name, events);
      else this.#argue(part.text, events);
    }
    if (!reader.isDone) return;
    if (reader.name === undefined) {
      // An object, and no call.
      this.#state = "text";
      this.#say(reader.raw, events);
      return;
    }
    if (!this.#argued) this.#argue("{}", events);
    this.#endCall();
  }

  #endCall(): void {
    this.#reader = undefined;
    this.#state = "between";
    if (this.#calls >= this.#callsMax) this.#state = "done";
  }

  #open(name: string, events: ToolEvent[]): void {
    events.push({ type: "call", index: this.#calls++, name });
  }

  #argue(text: string, events: ToolEvent[]): void {
    this.#argued = true;
    events.push({ type: "arguments", index: this.#calls - 1, text });
  }

  #say(text: string, events: ToolEvent[]): void {
    if (text !== "") events.push({ type: "text", text });
  }
}

/** Length of the longest end of the text with which the mark begins. */
function markBegun(text: string, mark: string): number {
  for (let length = Math.min(mark.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(mark.slice(0, length))) return length;
  }
  return 0;
}

/** Neighbours of one kind as one. */
function joined(events: readonly ToolEvent[]): ToolEvent[] {
  const all: ToolEvent[] = [];
  for (const event of events) {
    const last = all.at(-1);
    if (event.type === "text" && last?.type === "text") last.text += event.text;
    else if (
      event.type === "arguments" &&
      last?.type === "arguments" &&
      last.index === event.index
    ) {
      last.text += event.text;
    } else all.push({ ...event });
  }
  return all;
}

const nameCharsMax = 128;
