/** What identifies people: each kind by its own syntax, and by its checksum where it has one. */
import { isIP } from "node:net";
import type { PiiKind } from "../../../sdk/protocol/guardrails.ts";
import { anyOf, charsOf, type Detector, findAll, type Match, tailOf } from "./detector.ts";

export function piiDetector(kinds: readonly PiiKind[]): Detector {
  return anyOf(kinds.map((kind) => detectors[kind]));
}

/** Every pattern's repetitions are bounded, so that none takes more than a fixed number of steps for a character. */
const detectors: Record<PiiKind, Detector> = {
  email: {
    find: findEmails,
    openFrom: (text, from) => tailOf(text, from, charsOf("._%+-@"), emailCharsMax),
  },
  phone: {
    find: (text, from) =>
      findAll(/(?<![\w+])(?:\+|00)[1-9]\d{0,2}(?:[ .()/-]{0,2}\d){6,13}(?!\d)/g, text, {
        from,
        kind: "PHONE",
        isReal: (found) => digitsOf(found).replace(/^00/, "").length <= 15,
      }),
    openFrom: (text, from) => openNumber(text, from),
  },
  iban: {
    find: findIbans,
    openFrom: (text, from) => {
      const start = Math.max(from, text.length - 48);
      const open = /(?<![A-Za-z0-9])[A-Z](?:[A-Z](?:\d(?:\d(?: ?[A-Z0-9]){0,30} ?)?)?)?$/i.exec(
        text.slice(start),
      );
      return open ? start + open.index : text.length;
    },
  },
  card: { find: findCards, openFrom: (text, from) => openNumber(text, from) },
  ip: {
    find: (text, from) =>
      findAll(
        /(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\.\d{1,3}){0,3})(?![\w:])/gi,
        text,
        {
          from,
          kind: "IP",
          isReal: (found) => isIP(found) !== 0 && found !== "::",
        },
      ),
    openFrom: (text, from) => tailOf(text, from, charsOf(".:"), 48),
  },
  national_id: {
    find: findNationalIds,
    openFrom: (text, from) =>
      Math.min(openNumber(text, from), tailOf(text, from, charsOf("-"), 24)),
  },
};

const emailCharsMax = 320;
const isLocal = charsOf("._%+-'");
const isDomain = charsOf(".-");

/** From each `@` outwards; 64 characters before it and 255 after it are all that an address may have. */
function findEmails(text: string, from: number): Match[] {
  const found: Match[] = [];
  let least = from;
  for (let at = text.indexOf("@", from); at !== -1; at = text.indexOf("@", at + 1)) {
    let start = at;
    while (start > least && at - start < 64 && isLocal(text.charCodeAt(start - 1))) start--;
    let end = at + 1;
    while (end < text.length && end - at <= 255 && isDomain(text.charCodeAt(end))) end++;
    const domain = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?\.[a-z]{2,24}(?=[^a-z0-9]*$)/i.exec(
      text.slice(at + 1, end),
    );
    if (start === at || !domain) continue;
    end = at + 1 + domain[0].length;
    found.push({ start, end, kind: "EMAIL" });
    least = end;
  }
  return found;
}

function findIbans(text: string, from: number): Match[] {
  const found: Match[] = [];
  const beginning = /(?<![A-Za-z0-9])[A-Z]{2}\d{2}/gi;
  beginning.lastIndex = from;
  for (let head = beginning.exec(text); head; head = beginning.exec(text)) {
    const length = ibanLengths.get(head[0].slice(0, 2).toUpperCase());
    if (length === undefined) continue;
    let [plain, end] = ["", head.index];
    for (; plain.length < length && end < text.length; end++) {
      const char = text[end] as string;
      if (char === " " && text[end - 1] !== " ") continue;
      if (!/[A-Z0-9]/i.test(char)) break;
      plain += char.toUpperCase();
    }
    const goesOn = /^[A-Za-z0-9]/.test(text.slice(end, end + 1));
    if (plain.length < length || goesOn || mod97(plain.slice(4) + plain.slice(0, 4)) !== 1)
      continue;
    found.push({ start: head.index, end, kind: "IBAN" });
    beginning.lastIndex = end;
  }
  return found;
}

/** Letters count as 10 to 35, as ISO 7064 has it. */
function mod97(text: string): number {
  let rest = 0;
  for (const char of text) {
    const value = Number.parseInt(char, 36);
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97;
  }
  return rest;
}

/** Digits in groups: a card may be followed by other numbers, so each end between groups is tried, the longest first. */
function findCards(text: string, from: number): Match[] {
  const found: Match[] = [];
  const group = /(?<![\d])[2-6]\d{0,18}/g;
  group.lastIndex = from;
  for (let head = group.exec(text); head; head = group.exec(text)) {
    const end = cardEnd(text, head.index);
    if (end === undefined) continue;
    found.push({ start: head.index, end, kind: "CARD" });
    group.lastIndex = end;
  }
  return found;
}

function cardEnd(text: string, start: number): number | undefined {
  let digits = "";
  let best: number | undefined;
  for (let at = start; at < text.length && digits.length <= 19; at++) {
    const char = text[at] as string;
    const isDigit = char >= "0" && char <= "9";
    if (isDigit) digits += char;
    else if (!/[ -]/.test(char) || !/[0-9]/.test(text[at + 1] ?? "")) break;
    const next = text[at + 1] ?? "";
    const isEnd = isDigit && !(next >= "0" && next <= "9");
    if (isEnd && digits.length >= 13 && digits.length <= 19 && passesLuhn(digits)) best = at + 1;
  }
  return best;
}

function passesLuhn(digits: string): boolean {
  let sum = 0;
  for (let at = 0; at < digits.length; at++) {
    const digit = Number(digits[digits.length - 1 - at]);
    const doubled = at % 2 === 1 ? 2 * digit : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return sum % 10 === 0 && !/^(\d)\1*$/.test(digits);
}

/** Only those whose checksum leaves little to chance: Spain, Italy, France, Germany. */
function findNationalIds(text: string, from: number): Match[] {
  const kind = "NATIONAL_ID";
  return nationalIds.flatMap(({ pattern, isReal }) =>
    findAll(new RegExp(pattern, "gi"), text, { from, kind, isReal }),
  );
}

const nationalIds: readonly { pattern: string; isReal: (found: string) => boolean }[] = [
  {
    // DNI and NIE: the letter is the number modulo 23.
    pattern: String.raw`(?<![A-Z0-9])[XYZ\d]\d{7}-?[A-Z](?![A-Z0-9])`,
    isReal(found) {
      const plain = found.toUpperCase().replace("-", "");
      const number = Number(
        plain.slice(0, 8).replace(/^[XYZ]/, (letter) => String("XYZ".indexOf(letter))),
      );
      return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] === plain[8];
    },
  },
  {
    // Codice fiscale.
    pattern:
      "(?<![A-Z0-9])[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z](?![A-Z0-9])",
    isReal(found) {
      const plain = found.toUpperCase();
      let sum = 0;
      for (let at = 0; at < 15; at++) {
        const char = plain[at] as string;
        const value = /\d/.test(char) ? Number(char) : char.charCodeAt(0) - 65;
        sum += at % 2 === 0 ? (oddValues[value] as number) : value;
      }
      return String.fromCharCode(65 + (sum % 26)) === plain[15];
    },
  },
  {
    // France's NIR: the key is 97 less the number modulo 97; Corsica's letters stand for digits.
    pattern: String.raw`(?<![A-Z0-9])[1278] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?![A-Z0-9])`,
    isReal(found) {
      const plain = found.toUpperCase().replaceAll(" ", "");
      const number = BigInt(plain.slice(0, 13).replace("2A", "19").replace("2B", "18"));
      return 97n - (number % 97n) === BigInt(plain.slice(13));
    },
  },
  {
    // Germany's tax number: ISO 7064, mod 11, 10; one digit comes twice or three times among the first ten.
    pattern: String.raw`(?<![A-Z0-9])[1-9]\d ?\d{3} ?\d{3} ?\d{3}(?![A-Z0-9])`,
    isReal(found) {
      const digits = digitsOf(found);
      const counts = new Map<string, number>();
      for (const digit of digits.slice(0, 10)) counts.set(digit, (counts.get(digit) ?? 0) + 1);
      const repeated = [...counts.values()].filter((count) => count > 1);
      if (repeated.length !== 1 || (repeated[0] ?? 0) > 3) return false;
      let product = 10;
      for (const digit of digits.slice(0, 10)) {
        const sum = (Number(digit) + product) % 10 || 10;
        product = (2 * sum) % 11;
      }
      return (11 - product) % 10 === Number(digits[10]);
    },
  },
];

/** Of characters at odd places of a codice fiscale; digits count as the letters that they are the index of. */
const oddValues = [
  1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23,
];

function digitsOf(text: string): string {
  return text.replace(/\D/g, "");
}

/** Numbers are written in groups, so a blank does not end one. */
function openNumber(text: string, from: number): number {
  const start = tailOf(text, from, isOfNumber, 48);
  const sign = /[\d+(]/.exec(text.slice(start));
  return sign ? start + sign.index : text.length;
}

const numberChars = new Set([..." +().-/0123456789"].map((char) => char.charCodeAt(0)));
const isOfNumber = (code: number) => numberChars.has(code);

/** Of the IBAN registry, ISO 13616. */
const ibanLengths = new Map(
  "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20"
    .split(" ")
    .map((entry) => [entry.slice(0, 2), Number(entry.slice(2))]),
);
