/** Numbers that look random and are the same for the same seed, and what they spoil. */

export type Random = {
  /** From 0, below `end`. */
  below(end: number): number;
  oneOf<T>(all: readonly T[]): T;
};

/** Mulberry32, 32 bits of state. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (end: number) => Math.floor(next() * end);
  return { below, oneOf: (all) => all[below(all.length)] as (typeof all)[number] };
}

/** JSON text of a body in which something was changed, left out, added, or made of another kind. */
export function spoilJson(body: unknown, random: Random): string {
  const spoiled = structuredClone(body);
  for (let times = 1 + random.below(3); times > 0; times--) spoilOnce(spoiled, random);
  const text = JSON.stringify(spoiled).replaceAll('"⚑deep"', () => nested(50 + random.below(400)));
  // Names of members that mean something to JavaScript, which an object literal would not keep.
  return text.replaceAll('"⚑name":', () => `${JSON.stringify(random.oneOf(names))}:`);
}

/** Bytes with some of them cut off, changed, doubled or moved. */
export function spoilBytes(bytes: Uint8Array, random: Random): Uint8Array {
  let spoiled = Buffer.from(bytes);
  for (let times = 1 + random.below(3); times > 0 && spoiled.length > 0; times--) {
    const at = random.below(spoiled.length);
    const length = 1 + random.below(Math.min(64, spoiled.length));
    switch (random.below(6)) {
      case 0:
        spoiled = spoiled.subarray(0, at);
        break;
      case 1:
        spoiled = Buffer.concat([spoiled.subarray(0, at), spoiled.subarray(at + length)]);
        break;
      case 2:
        spoiled[at] = random.below(256);
        break;
      case 3: {
        const junk = Buffer.from(random.oneOf(junks));
        spoiled = Buffer.concat([spoiled.subarray(0, at), junk, spoiled.subarray(at)]);
        break;
      }
      case 4:
        spoiled = Buffer.concat([spoiled.subarray(0, at + length), spoiled.subarray(at)]);
        break;
      default:
        spoiled = Buffer.concat([Buffer.from(random.oneOf(junks)), spoiled]);
    }
  }
  return spoiled;
}

type Place = { holder: Record<string, unknown> | unknown[]; key: string | number };

function spoilOnce(body: unknown, random: Random): void {
  const places = placesIn(body);
  if (places.length === 0) return;
  const { holder, key } = random.oneOf(places);
  const at = holder as Record<string | number, unknown>;
  switch (random.below(6)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(Number(key), 1);
      else delete at[key];
      break;
    case 1:
      if (Array.isArray(holder)) holder.push(...Array.from({ length: 3 }, () => at[key]));
      else at["⚑name"] = at[key];
      break;
    case 2: {
      const other = random.oneOf(places);
      at[key] = structuredClone((other.holder as Record<string | number, unknown>)[other.key]);
      break;
    }
    default:
      at[key] = structuredClone(random.oneOf(values));
  }
}

function placesIn(value: unknown): Place[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Place["holder"];
  const keys = Array.isArray(holder) ? holder.keys() : Object.keys(holder);
  return [...keys].flatMap((key): Place[] => [
    { holder, key },
    ...placesIn((holder as Record<string | number, unknown>)[key]),
  ]);
}

function nested(depth: number): string {
  return "[".repeat(depth) + "]".repeat(depth);
}

const values: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  0.5,
  1e308,
  2 ** 53,
  "",
  " ",
  "0",
  "\u0000",
  "\ud800",
  "\ufeff",
  "a\r\nb: c",
  "../../../etc/passwd",
  "__proto__",
  "é".repeat(5000),
  [],
  [[]],
  [null],
  {},
  { "⚑name": { polluted: true } },
  { type: "text" },
  { type: "function" },
  { type: 7 },
  { type: "__proto__" },
  "⚑deep",
];
const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "", "\u0000", "type", "0"];
const junks: readonly string[] = [
  "\u0000",
  "\ufeff",
  "\n\n",
  "\r",
  "data: ",
  "data: {}\n\n",
  "data: []\n\n",
  "data: null\n\n",
  "data: [DONE]\n\n",
  'data: {"error": null}\n\n',
  'data: {"choices": [{"index": 1e9, "delta": {"content": "x"}}]}\n\n',
  'data: {"candidates": [{"index": -1}]}\n\n',
  'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n',
  ": comment\n\n",
  "id: 1\nretry: 0\n\n",
  "<html>",
  "\ud83e",
  "}",
  '"',
];
