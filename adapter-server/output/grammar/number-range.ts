/** Numbers between two bounds as grammars, digit by digit. */
import { type Expression, type GrammarText, literal, nothing, sequence } from "./grammar-text.ts";

export type Bound = { value: number; exclusive: boolean };
export type Bounds = { min?: Bound | undefined; max?: Bound | undefined };

/** Digits that a double holds exactly, before and behind the point together. */
export const digitsMax = 15;
const largest = 10 ** digitsMax - 1;
/** Where a decimal has no bound, so that digits are left for what stands behind the point. */
const largestDecimal = 1e9 - 1;

/** @returns undefined when no integer lies between the bounds */
export function integersWithin(text: GrammarText, { min, max }: Bounds): Expression | undefined {
  const least = min ? firstInteger(min) : -largest;
  const most = max ? -firstInteger(mirrored(max)) : largest;
  if (least > most) return undefined;
  const parts: Expression[] = [];
  if (least < 0) {
    const negative = naturals(text, Math.max(1, -most), -least);
    if (negative !== undefined) parts.push(sequence([literal("-"), negative]));
  }
  const natural = naturals(text, Math.max(0, least), most);
  if (natural !== undefined) parts.push(natural);
  return text.choice(parts);
}

/**
 * Written without an exponent, with as many digits as a double holds exactly.
 * @returns undefined when nothing that is written so lies between the bounds
 */
export function decimalsWithin(text: GrammarText, { min, max }: Bounds): Expression | undefined {
  const parts: Expression[] = [];
  if (!min || min.value < 0) {
    // -0 is 0, so it is written only where 0 may be.
    const withoutZero =
      max?.value === 0 && max.exclusive ? { value: 0, exclusive: true } : undefined;
    const below = magnitudes(text, {
      min: max && max.value < 0 ? mirrored(max) : withoutZero,
      max: min && mirrored(min),
    });
    if (below !== undefined) parts.push(sequence([literal("-"), below]));
  }
  if (!max || max.value >= 0) {
    const above = magnitudes(text, { min: min && min.value >= 0 ? min : undefined, max });
    if (above !== undefined) parts.push(above);
  }
  return parts.length === 0 ? undefined : text.choice(parts);
}

/** Whether the bound can be compared digit by digit. */
export function isPlainBound(value: number): boolean {
  return Math.abs(value) <= largest && /^-?\d+(\.\d+)?$/.test(String(value));
}

/** Decimals that are not negative. */
function magnitudes(text: GrammarText, { min, max }: Bounds): Expression | undefined {
  const low = decimal(min?.value ?? 0);
  const high = decimal(max?.value ?? Math.max(largestDecimal, low.whole));
  if (low.whole > high.whole) return undefined;
  const places = digitsMax - String(high.whole).length;
  const tight = (whole: number) => ({
    low:
      whole === low.whole
        ? { digits: low.fraction, exclusive: min?.exclusive ?? false }
        : undefined,
    high:
      whole === high.whole
        ? { digits: high.fraction, exclusive: max?.exclusive ?? false }
        : undefined,
  });
  const parts: Expression[] = [];
  const add = (whole: Expression, fraction: Expression | undefined) => {
    if (fraction !== undefined) parts.push(sequence([whole, fraction]));
  };
  add(literal(String(low.whole)), fractions(text, tight(low.whole), places));
  if (high.whole > low.whole)
    add(literal(String(high.whole)), fractions(text, tight(high.whole), places));
  const between = naturals(text, low.whole + 1, high.whole - 1);
  if (between !== undefined)
    add(between, fractions(text, { low: undefined, high: undefined }, places));
  return parts.length === 0 ? undefined : text.choice(parts);
}

type Edge = { digits: string; exclusive: boolean } | undefined;

/** What may follow a whole number: nothing, or a point and digits. */
function fractions(
  text: GrammarText,
  edges: { low: Edge; high: Edge },
  places: number,
): Expression | undefined {
  const digits = places > 0 ? fractionDigits(text, edges, places, false) : undefined;
  const whole = mayStop(edges);
  if (digits === undefined) return whole ? nothing : undefined;
  const fraction = sequence([literal("."), digits]);
  return whole ? text.choice([nothing, fraction]) : fraction;
}

/**
 * Digits from here on that keep between the edges; an edge that was left behind is gone.
 * @param begun whether a digit stands behind the point already
 * @returns undefined when there are none
 */
function fractionDigits(
  text: GrammarText,
  { low, high }: { low: Edge; high: Edge },
  places: number,
  begun: boolean,
): Expression | undefined {
  if (!low && !high) return text.repeat(digit, begun ? 0 : 1, places);
  const options: Expression[] = begun && mayStop({ low, high }) ? [nothing] : [];
  if (places > 0) {
    const [least, most] = [
      low ? Number(low.digits[0] ?? 0) : 0,
      high ? Number(high.digits[0] ?? 0) : 9,
    ];
    const free: number[] = [];
    for (let next = least; next <= most; next++) {
      const edges = {
        low: low && next === least ? rest(low) : undefined,
        high: high && next === most ? rest(high) : undefined,
      };
      // Above the lower edge's last digit everything is above it.
      if (edges.low && edges.low.digits === "" && !edges.low.exclusive) edges.low = undefined;
      if (!edges.low && !edges.high) {
        free.push(next);
        continue;
      }
      const behind = fractionDigits(text, edges, places - 1, true);
      if (behind !== undefined) options.push(sequence([literal(String(next)), behind]));
    }
    const [first, last] = [free.at(0), free.at(-1)];
    if (first !== undefined && last !== undefined) {
      options.push(sequence([`[${first}-${last}]`, text.repeat(digit, 0, places - 1)]));
    }
  }
  return options.length === 0 ? undefined : text.choice(options);
}

/** Whether the number that ends here keeps between the edges. */
function mayStop({ low, high }: { low: Edge; high: Edge }): boolean {
  const isZero = (digits: string) => /^0*$/.test(digits);
  if (low && (!isZero(low.digits) || low.exclusive)) return false;
  return !(high && isZero(high.digits) && high.exclusive);
}

function rest({ digits, exclusive }: NonNullable<Edge>): NonNullable<Edge> {
  return { digits: digits.slice(1), exclusive };
}

/** Whole numbers from `min`, which is not negative, to `max`, without leading zeros. */
function naturals(text: GrammarText, min: number, max: number): Expression | undefined {
  if (min > max) return undefined;
  const parts: Expression[] = [];
  for (let length = String(min).length; length <= String(max).length; length++) {
    const [first, last] = [length === 1 ? 0 : 10 ** (length - 1), 10 ** length - 1];
    parts.push(sameLength(text, String(Math.max(min, first)), String(Math.min(max, last))));
  }
  return text.choice(parts);
}

function sameLength(text: GrammarText, low: string, high: string): Expression {
  if (low === high) return literal(low);
  if (/^0*$/.test(low) && /^9*$/.test(high)) return text.repeat(digit, low.length, low.length);
  const [first, last] = [Number(low[0]), Number(high[0])];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  if (first === last)
    return sequence([literal(String(first)), sameLength(text, lowRest, highRest)]);
  if (lowRest === "") return `[${first}-${last}]`;
  const [zeros, nines] = ["0".repeat(lowRest.length), "9".repeat(lowRest.length)];
  const [openLow, openHigh] = [
    lowRest === zeros ? first : first + 1,
    highRest === nines ? last : last - 1,
  ];
  const parts: Expression[] = [];
  if (openLow > first)
    parts.push(sequence([literal(String(first)), sameLength(text, lowRest, nines)]));
  if (openLow <= openHigh)
    parts.push(sequence([`[${openLow}-${openHigh}]`, sameLength(text, zeros, nines)]));
  if (openHigh < last)
    parts.push(sequence([literal(String(last)), sameLength(text, zeros, highRest)]));
  return text.choice(parts);
}

/** The least integer that a lower bound allows. */
function firstInteger({ value, exclusive }: Bound): number {
  const first = Math.ceil(value);
  return Math.max(-largest, exclusive && first === value ? first + 1 : first);
}

function mirrored({ value, exclusive }: Bound): Bound {
  return { value: -value, exclusive };
}

function decimal(value: number): { whole: number; fraction: string } {
  const [whole = "0", fraction = ""] = String(Math.abs(value)).split(".");
  return { whole: Number(whole), fraction };
}

const digit: Expression = "[0-9]";
