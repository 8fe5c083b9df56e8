/**
 * Jinja with bounds. A template comes with a checkpoint, so it may be hostile: each piece of work is paid from
 * a budget, and no value outgrows a size. Both count alike on every machine; there is no clock in it.
 */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import {
  analyse,
  type Growth,
  type JinjaNode,
  type JinjaValue,
  type Nodes,
} from "./jinja-nodes.ts";

export type JinjaTemplate = {
  program: JinjaNode;
  nodes: Nodes;
  sourceChars: number;
};

export type JinjaBounds = {
  /** Steps of the interpreter, and work that one step does in proportion to its operands. */
  workMax: number;
  /** Characters of one value, those of its parts included; a part counts as some characters itself. */
  sizeMax: number;
};

/** The template wants more than it may. */
export class JinjaBoundError extends Error {}

/** @throws Error when the source is no template; JinjaBoundError when it is larger than any real one */
export function parseJinja(source: string): JinjaTemplate {
  if (source.length > sourceCharsMax) {
    throw new JinjaBoundError(`it is longer than ${sourceCharsMax} characters`);
  }
  // The tokenizer goes through a run of blanks again from each of its places.
  if (longBlank.test(source)) throw new JinjaBoundError("it has over 1,000 blanks in a row");
  const program: JinjaNode = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  return { program, nodes: analyse(program), sourceChars: source.length };
}

/**
 * @param variables strings, numbers, booleans, functions, lists and tables of them
 * @throws JinjaBoundError when a bound is reached; Error with the template's own words when it refuses
 */
export function renderJinja(
  template: JinjaTemplate,
  variables: Readonly<Record<string, unknown>>,
  bounds: JinjaBounds,
): string {
  const environment: JinjaEnvironment = new Environment();
  for (const [name, value] of Object.entries({ ...globals, ...variables })) {
    environment.set(name, value);
  }
  return String(new BoundedInterpreter(environment, template, bounds).run(template.program).value);
}

/** The package's own types of these two are lost to Node's way of resolving; this is what we use of them. */
type JinjaEnvironment = { set(name: string, value: unknown): void };
type JinjaInterpreter = {
  run(program: JinjaNode): JinjaValue;
  evaluate(node: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue;
};
const PlainInterpreter: new (environment: JinjaEnvironment) => JinjaInterpreter = Interpreter;

class BoundedInterpreter extends PlainInterpreter {
  readonly #nodes: Nodes;
  readonly #sourceChars: number;
  readonly #sizeMax: number;
  readonly #sizes = new WeakMap<JinjaValue, number>();
  /** What the operands of costly operations came out as. */
  readonly #values = new Map<JinjaNode, JinjaValue>();
  #workLeft: number;
  #depth = 0;

  constructor(
    environment: JinjaEnvironment,
    { nodes, sourceChars }: JinjaTemplate,
    { workMax, sizeMax }: JinjaBounds,
  ) {
    super(environment);
    this.#nodes = nodes;
    this.#sourceChars = sourceChars;
    this.#workLeft = workMax;
    this.#sizeMax = sizeMax;
  }

  /** Every node passes here, and its operands before it. */
  override evaluate(node: JinjaNode | undefined, environment: JinjaEnvironment): JinjaValue {
    // Where a macro is defined, its whole body is searched.
    this.#spend(node?.type === "Macro" || node?.type === "CallStatement" ? this.#sourceChars : 1);
    if (++this.#depth > depthMax) throw new JinjaBoundError(`it nests deeper than ${depthMax}`);
    try {
      const value = super.evaluate(node, environment);
      // A filter such as `first` has nothing at all to give of an empty list.
      if (node && value) this.#account(node, value);
      return value;
    } finally {
      this.#depth--;
    }
  }

  #account(node: JinjaNode, value: JinjaValue): void {
    const size = this.#sizeOf(value);
    const isText = value.type === "StringValue";
    if (isText) this.#spend(size / 512);
    if (this.#nodes.read.has(node)) this.#spend(size / (isText ? 32 : 8));
    if (this.#nodes.walked.has(node)) this.#spend(4 * (isText ? size / 32 : countOf(value)));
    // Looking up a name that is missing throws and catches an exception.
    if (value.type === "UndefinedValue") this.#spend(30);
    if (this.#nodes.kept.has(node)) this.#values.set(node, value);
    const growth = this.#nodes.growths.get(node);
    if (growth) this.#checked(this.#grown(growth));
  }

  #spend(work: number): void {
    this.#workLeft -= work;
    if (this.#workLeft < 0) throw new JinjaBoundError("it takes more work than any template needs");
  }

  /** Lists and tables never change, so they are counted once. Namespaces do, so nothing may hold one. */
  #sizeOf(value: JinjaValue): number {
    if (typeof value.value === "string") return this.#checked(value.value.length);
    const parts = partsOf(value);
    if (!parts) return 1;
    const known = this.#sizes.get(value);
    if (known !== undefined) return known;
    let size = partSize;
    for (const part of parts) {
      if (part.type === "NamespaceValue") {
        throw new JinjaBoundError("it keeps a namespace inside another value");
      }
      this.#spend(1);
      size = this.#checked(size + partSize + this.#sizeOf(part));
    }
    if (value.type !== "NamespaceValue") this.#sizes.set(value, size);
    return size;
  }

  /** About how many characters an operation is going to make of its operands, before it does. */
  #grown({ operation, operand, args }: Growth): number {
    const on = this.#values.get(operand);
    const by = args.map((arg) => this.#values.get(arg));
    if (!on) return 0;
    const size = this.#sizeOf(on);
    const widest = Math.max(
      ...by.map((arg) => {
        if (!arg) return 0;
        return typeof arg.value === "number" ? Math.abs(arg.value) : this.#sizeOf(arg);
      }),
    );
    return size + placesOf(operation, on, by[0], size) * widest;
  }

  #checked(size: number): number {
    if (size > this.#sizeMax) {
      throw new JinjaBoundError(`it makes a value of more than ${this.#sizeMax} characters`);
    }
    return size;
  }
}

/** At how many places of a value its operation puts one of the arguments in. */
function placesOf(
  operation: Growth["operation"],
  { value }: JinjaValue,
  first: JinjaValue | undefined,
  size: number,
): number {
  switch (operation) {
    case "replace": {
      const from = first?.value;
      if (typeof value !== "string" || typeof from !== "string") return 0;
      return from === "" ? value.length + 1 : value.split(from).length - 1;
    }
    case "join":
      return Array.isArray(value) || typeof value === "string" ? value.length : 0;
    case "indent":
      return typeof value === "string" ? value.split("\n").length : 0;
    case "tojson":
      return size / partSize;
    default:
      return operation satisfies never;
  }
}

/** Parts of a list or table, without theirs. */
function countOf({ value }: JinjaValue): number {
  if (Array.isArray(value)) return value.length;
  return value instanceof Map ? value.size : 0;
}

function partsOf({ value }: JinjaValue): Iterable<JinjaValue> | undefined {
  if (Array.isArray(value)) return value;
  return value instanceof Map ? value.values() : undefined;
}

/** As the sandbox of the reference does, whose bound this is. @see jinja2.sandbox `safe_range` */
function range(...bounds: unknown[]): number[] {
  const [first = 0, second, step = 1] = bounds.map((bound) => {
    if (typeof bound !== "number") throw new Error("range() takes numbers");
    return bound;
  });
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (step === 0) throw new Error("range() step must not be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= rangeMax)) {
    throw new JinjaBoundError(`it counts a range of more than ${rangeMax}`);
  }
  return Array.from({ length }, (_, index) => start + index * step);
}

const globals = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  range,
  raise_exception(message: unknown): never {
    throw new Error(String(message));
  },
};

/** The longest templates of known models have some 30,000 characters. */
const sourceCharsMax = 1 << 18;
const longBlank = /\s{1001}/;
const rangeMax = 100_000;
const depthMax = 500;
/** What a list or table costs beside the text in it. */
const partSize = 16;
