/**
 * PEFT's regular expressions over module paths, matched in linear time and never by a backtracking engine.
 * A pattern of a foreign config becomes a small automaton (Thompson's construction) whose set of states
 * walks once along the path, so no pattern can make matching slow.
 * @see K. Thompson, "Regular Expression Search Algorithm", CACM 11(6), 1968
 */

/** Why a pattern cannot be used: broken, or syntax that we do not interpret. */
export class ModulePatternError extends Error {
  override readonly name = "ModulePatternError";
}

/** A test of whole paths such as `model.layers.0.self_attn.q_proj`. */
export type ModulePattern = (path: string) => boolean;

/**
 * `re.fullmatch(pattern, path)` for the subset of Python's syntax that adapters use: literals, `.`,
 * classes, groups (also `(?:…)` and `(?P<name>…)`), `|`, `*`, `+`, `?`, `^`, `$`, `\Z`, `\d`, `\w`.
 * @throws ModulePatternError for anything else
 */
export function compilePattern(pattern: string): ModulePattern {
  if (pattern.length > patternLengthMax) {
    throw new ModulePatternError(`is longer than ${patternLengthMax} characters`);
  }
  const parser = new Parser(pattern);
  const start = parser.parse();
  return (path) => run(parser.states, start, path);
}

/**
 * PEFT's key of `rank_pattern` and `alpha_pattern`: the path's tail, `^(.*\.)?(KEY)$`.
 * Keys that are plain names, which is nearly all, need no automaton.
 * @throws ModulePatternError
 */
export function compileTailPattern(key: string): ModulePattern {
  if (/^[A-Za-z0-9_.]+$/.test(key)) return (path) => endsWithName(path, key);
  return compilePattern(`(.*\\.)?(${key})`);
}

/** Whether the path is, or ends after a dot with, the key, in which `.` stands for any character. */
function endsWithName(path: string, key: string): boolean {
  const from = path.length - key.length;
  if (from < 0 || (from > 0 && path[from - 1] !== ".")) return false;
  for (let i = 0; i < key.length; i++) {
    if (key[i] !== "." && key[i] !== path[from + i]) return false;
  }
  return true;
}

type State =
  | { type: "character"; accepts: (code: number) => boolean; next: number }
  | { type: "split"; next: number; other: number }
  | { type: "atStart" | "atEnd"; next: number }
  | { type: "accept" };

/** Where a part begins, and which states still wait to be told what follows. */
type Fragment = { start: number; open: ((to: number) => void)[] };

function run(states: readonly State[], start: number, path: string): boolean {
  let current = new Set<number>();
  follow(states, start, { atStart: true, atEnd: path.length === 0 }, current);
  for (let i = 0; i < path.length && current.size > 0; i++) {
    const next = new Set<number>();
    const code = path.charCodeAt(i);
    for (const index of current) {
      const state = states[index];
      if (state?.type === "character" && state.accepts(code)) {
        follow(states, state.next, { atStart: false, atEnd: i === path.length - 1 }, next);
      }
    }
    current = next;
  }
  return [...current].some((index) => states[index]?.type === "accept");
}

/** Adds a state and all that it reaches without reading a character. */
function follow(
  states: readonly State[],
  from: number,
  at: { atStart: boolean; atEnd: boolean },
  into: Set<number>,
): void {
  const pending = [from];
  for (let index = pending.pop(); index !== undefined; index = pending.pop()) {
    if (into.has(index)) continue;
    into.add(index);
    const state = states[index];
    if (state?.type === "split") pending.push(state.next, state.other);
    else if ((state?.type === "atStart" || state?.type === "atEnd") && at[state.type]) {
      pending.push(state.next);
    }
  }
}

/** Recursive descent over `alternation := sequence ('|' sequence)*`, building states as it goes. */
class Parser {
  readonly states: State[] = [];
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** @returns the index of the first state */
  parse(): number {
    const whole = this.#alternation();
    if (this.#at < this.#text.length) throw new ModulePatternError("has a ')' without its '('");
    const accept = this.#add({ type: "accept" });
    for (const connect of whole.open) connect(accept);
    return whole.start;
  }

  #alternation(): Fragment {
    let left = this.#sequence();
    while (this.#take("|")) {
      const right = this.#sequence();
      const start = this.#add({ type: "split", next: left.start, other: right.start });
      left = { start, open: [...left.open, ...right.open] };
    }
    return left;
  }

  #sequence(): Fragment {
    let whole: Fragment | undefined;
    while (this.#at < this.#text.length && !"|)".includes(this.#peek())) {
      const part = this.#repeated();
      if (whole === undefined) whole = part;
      else {
        for (const connect of whole.open) connect(part.start);
        whole = { start: whole.start, open: part.open };
      }
    }
    return whole ?? this.#empty();
  }

  #repeated(): Fragment {
    const part = this.#atom();
    const operator = this.#peek();
    if (operator === "{") throw new ModulePatternError("uses '{', which is not interpreted");
    if (operator !== "*" && operator !== "+" && operator !== "?") return part;
    this.#at++;
    if (this.#peek() !== "" && "*+?{".includes(this.#peek())) {
      throw new ModulePatternError("repeats a repetition, which is not interpreted");
    }
    const split = { type: "split" as const, next: part.start, other: -1 };
    const index = this.#add(split);
    const leave = (to: number) => {
      split.other = to;
    };
    if (operator === "?") return { start: index, open: [...part.open, leave] };
    for (const connect of part.open) connect(index);
    return { start: operator === "*" ? index : part.start, open: [leave] };
  }

  #atom(): Fragment {
    const character = this.#text[this.#at++] ?? "";
    switch (character) {
      case "(":
        return this.#group();
      case "[":
        return this.#character(this.#class());
      case ".":
        return this.#character(() => true);
      case "^":
        return this.#assertion("atStart");
      case "$":
        return this.#assertion("atEnd");
      case "\\":
        return this.#peek() === "Z" && this.#take("Z")
          ? this.#assertion("atEnd")
          : this.#character(this.#escape());
      case "*":
      case "+":
      case "?":
      case "{":
        throw new ModulePatternError(`has '${character}' with nothing to repeat`);
      default:
        return this.#character(equals(character));
    }
  }

  #group(): Fragment {
    if (++this.#depth > groupDepthMax) {
      throw new ModulePatternError(`nests groups deeper than ${groupDepthMax}`);
    }
    if (this.#take("?")) {
      const prefix = /^(?::|P<[A-Za-z_][A-Za-z0-9_]{0,63}>)/.exec(
        this.#text.slice(this.#at, this.#at + 70),
      );
      if (!prefix) throw new ModulePatternError("uses a '(?' group that is not interpreted");
      this.#at += prefix[0].length;
    }
    const inner = this.#alternation();
    if (!this.#take(")")) throw new ModulePatternError("has a '(' without its ')'");
    this.#depth--;
    return inner;
  }

  #class(): (code: number) => boolean {
    const negated = this.#take("^");
    const tests: ((code: number) => boolean)[] = [];
    while (this.#peek() !== "]" || tests.length === 0) {
      const low = this.#text[this.#at++];
      if (low === undefined) throw new ModulePatternError("has a '[' without its ']'");
      if (low === "\\") {
        tests.push(this.#escape());
      } else if (this.#peek() === "-" && this.#text[this.#at + 1] !== "]") {
        this.#at++;
        const high = this.#text[this.#at++] ?? "";
        if (high === "" || high === "\\" || high < low) {
          throw new ModulePatternError("has a character range that is not interpreted");
        }
        tests.push((code) => code >= low.charCodeAt(0) && code <= high.charCodeAt(0));
      } else {
        tests.push(equals(low));
      }
    }
    this.#at++;
    return (code) => tests.some((test) => test(code)) !== negated;
  }

  #escape(): (code: number) => boolean {
    const character = this.#text[this.#at++] ?? "";
    if (character === "d") return isDigit;
    if (character === "w") return (code) => /\w/.test(String.fromCharCode(code));
    if (character === "" || /[A-Za-z0-9]/.test(character)) {
      throw new ModulePatternError(`uses '\\${character}', which is not interpreted`);
    }
    return equals(character);
  }

  #character(accepts: (code: number) => boolean): Fragment {
    const state = { type: "character" as const, accepts, next: -1 };
    return this.#withNext(state);
  }

  #assertion(type: "atStart" | "atEnd"): Fragment {
    return this.#withNext({ type, next: -1 });
  }

  /** A part that reads nothing: a split whose two ways are one. */
  #empty(): Fragment {
    const state = { type: "split" as const, next: -1, other: -1 };
    const connect = (to: number) => {
      state.next = to;
      state.other = to;
    };
    return { start: this.#add(state), open: [connect] };
  }

  #withNext(state: State & { next: number }): Fragment {
    const connect = (to: number) => {
      state.next = to;
    };
    return { start: this.#add(state), open: [connect] };
  }

  #add(state: State): number {
    return this.states.push(state) - 1;
  }

  #peek(): string {
    return this.#text[this.#at] ?? "";
  }

  #take(character: string): boolean {
    if (this.#peek() !== character) return false;
    this.#at++;
    return true;
  }
}

function equals(character: string): (code: number) => boolean {
  const wanted = character.charCodeAt(0);
  return (code) => code === wanted;
}

const isDigit = (code: number) => code >= 0x30 && code <= 0x39;
const patternLengthMax = 512;
const groupDepthMax = 16;
