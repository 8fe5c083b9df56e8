/** What has to be known of a template's syntax tree to tell, while it runs, what its operations cost. */
/** A statement or an expression, with what nodes of the kinds that matter have. */
export type JinjaNode = {
  type: string;
  operand?: JinjaNode;
  filter?: JinjaNode;
  callee?: JinjaNode;
  args?: JinjaNode[];
  iterable?: JinjaNode;
  lhs?: JinjaNode;
  right?: JinjaNode;
  object?: JinjaNode;
  property?: JinjaNode;
  operator?: { value: string };
  value?: unknown;
  body?: JinjaNode[];
  alternate?: JinjaNode[];
  defaultBlock?: JinjaNode[];
};

/** What an expression gives: `value` is a string, a number, an array or a Map of values, and so on. */
export type JinjaValue = { type: string; value: unknown };

/** An operation whose result may be larger than all of its operands together. */
export type Growth = {
  operation: "replace" | "join" | "indent" | "tojson";
  operand: JinjaNode;
  args: JinjaNode[];
};

export type Nodes = {
  /** Whose values are read with all that is in them: filtered, searched, or written out. */
  read: ReadonlySet<JinjaNode>;
  /** Whose values are gone through part by part: iterated or cut. */
  walked: ReadonlySet<JinjaNode>;
  /** Whose values a growth looks at. */
  kept: ReadonlySet<JinjaNode>;
  /** By the operand that is evaluated last, just before the operation runs. */
  growths: ReadonlyMap<JinjaNode, Growth>;
};

/** Goes through the whole tree, once for each template. */
export function analyse(program: JinjaNode): Nodes {
  const read = new Set<JinjaNode>();
  const walked = new Set<JinjaNode>();
  const kept = new Set<JinjaNode>();
  const growths = new Map<JinjaNode, Growth>();
  const visit = (node: JinjaNode): void => {
    for (const operand of readBy(node)) read.add(operand);
    for (const operand of walkedBy(node)) walked.add(operand);
    const growth = growthOf(node);
    if (growth) {
      const { operand, args } = growth;
      for (const each of [operand, ...args]) kept.add(each);
      // A filter has its operand first, a method the text that it is called on last.
      growths.set(node.type === "FilterExpression" ? args.at(-1)! : operand, growth);
    }
    for (const child of Object.values(node)) eachNode(child, visit);
  };
  visit(program);
  return { read, walked, kept, growths };
}

function readBy(node: JinjaNode): JinjaNode[] {
  const { type, operand, right, operator, body, alternate, defaultBlock } = node;
  if (type === "FilterExpression" && operand) return [operand];
  if (type === "BinaryExpression" && right && operator?.value.endsWith("in")) return [right];
  return [body, alternate, defaultBlock].flatMap((block) => block ?? []);
}

function walkedBy({ type, iterable, object, property }: JinjaNode): JinjaNode[] {
  if (type === "For" && iterable) return [iterable.lhs ?? iterable];
  if (property?.type === "SliceExpression" && object) return [object];
  return [];
}

/** `x | replace(a, b)` and its like, and `x.replace(a, b)`. Without arguments nothing grows by much. */
function growthOf({ type, operand, filter, callee, args }: JinjaNode): Growth | undefined {
  if (type === "FilterExpression" && filter?.type === "CallExpression") {
    return growth(filter.callee?.value, operand, filter.args);
  }
  if (type === "CallExpression" && callee?.type === "MemberExpression") {
    return growth(callee.property?.value, callee.object, args);
  }
  return undefined;
}

function growth(
  name: unknown,
  operand: JinjaNode | undefined,
  args: readonly JinjaNode[] | undefined,
): Growth | undefined {
  const operation = growing.find((known) => known === name);
  if (!operation || !operand || !args?.length) return undefined;
  // Named arguments are evaluated after the others.
  const plain = args.filter(({ type }) => type !== "KeywordArgumentExpression");
  const named = args.flatMap(({ type, value }) =>
    type === "KeywordArgumentExpression" && isNode(value) ? [value] : [],
  );
  return { operation, operand, args: [...plain, ...named] };
}

function eachNode(value: unknown, visit: (node: JinjaNode) => void): void {
  if (Array.isArray(value)) for (const each of value) eachNode(each, visit);
  else if (value instanceof Map) for (const entry of value) eachNode(entry, visit);
  else if (isNode(value)) visit(value);
}

function isNode(value: unknown): value is JinjaNode {
  return typeof value === "object" && value !== null && "type" in value;
}

const growing = ["replace", "join", "indent", "tojson"] as const;
