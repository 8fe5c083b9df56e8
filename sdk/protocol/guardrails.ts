/** What a project has looked at in its requests and answers, in order, and what is done about what is found. */
import { z } from "zod";

export const piiKinds = ["email", "phone", "iban", "card", "ip", "national_id"] as const;
export type PiiKind = (typeof piiKinds)[number];

/** Those that are told apart, by ISO 639-1. */
export const detectedLanguages = [
  ...(["am", "ar", "az", "be", "bg", "bn", "ca", "cs", "da", "de", "el", "en"] as const),
  ...(["es", "et", "eu", "fa", "fi", "fr", "gu", "he", "hi", "hr", "hu", "hy"] as const),
  ...(["is", "it", "ja", "ka", "kn", "ko", "ku", "lo", "lt", "lv", "ml", "mr"] as const),
  ...(["ms", "nl", "no", "or", "pa", "pl", "pt", "ro", "ru", "sk", "sl", "sq"] as const),
  ...(["sr", "sv", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yo", "zh"] as const),
] as const;
export type DetectedLanguage = (typeof detectedLanguages)[number];

/** Bounds of one project's guardrails; `docs/limits.md` lists them. */
export const guardrailBounds = {
  guardsMax: 20,
  patternsMax: 32,
  patternCharsMax: 512,
  /** Instructions of a compiled pattern; each may be run once for each character. */
  patternSizeMax: 256,
  wordsMax: 1000,
  wordCharsMax: 128,
  windowCharsMax: 4096,
  timeoutMsMax: 30_000,
  instructionsCharsMax: 4000,
} as const;

const bounds = guardrailBounds;

/** `own`: the request goes to models on hardware of one's own, or to none. */
const action = z.enum(["block", "redact", "flag", "own"]);
const withoutRedact = z.enum(["block", "flag", "own"]);
export type GuardAction = z.infer<typeof action>;

const shared = {
  /** Stands in the header and in the record. */
  name: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,39}$/),
  on: z
    .array(z.enum(["request", "answer"]))
    .min(1)
    .max(2)
    .default(["request", "answer"]),
};

const pattern = z.string().min(1).max(bounds.patternCharsMax);
const patterns = z.array(pattern).min(1).max(bounds.patternsMax);

/** What is asked of somebody else: in how long, and what holds when there is no verdict. */
const asked = {
  timeoutMs: z.int().positive().max(bounds.timeoutMsMax).default(5000),
  onFailure: z.enum(["block", "pass"]).default("block"),
  action: withoutRedact.default("block"),
};

const languages = z
  .array(
    z.enum(detectedLanguages, {
      error: `expected languages that are told apart here: ${detectedLanguages.join(", ")}`,
    }),
  )
  .min(1);

const oneGuard = z.discriminatedUnion("type", [
  z.strictObject({
    ...shared,
    type: z.literal("pii"),
    kinds: z
      .array(z.enum(piiKinds))
      .min(1)
      .default([...piiKinds]),
    action: action.default("redact"),
    /** Whether what was taken out of a request is put back into its answer. */
    restore: z.boolean().default(true),
  }),
  z.strictObject({
    ...shared,
    type: z.literal("secrets"),
    action: action.default("redact"),
    restore: z.boolean().default(true),
  }),
  z.strictObject({
    ...shared,
    type: z.literal("regex"),
    /** In RE2's syntax: no look-around and no back-references, and so linear in the text. */
    patterns,
    action: action.default("block"),
    restore: z.boolean().default(false),
    /** Characters of a stream that are held back; no match may be longer. */
    windowChars: z.int().positive().max(bounds.windowCharsMax).default(128),
  }),
  z.strictObject({
    ...shared,
    type: z.literal("deny"),
    /** Compared without regard to case. */
    words: z.array(z.string().min(1).max(bounds.wordCharsMax)).min(1).max(bounds.wordsMax),
    /** Whether letters or digits may touch a word. */
    whole: z.boolean().default(true),
    action: action.default("block"),
    restore: z.boolean().default(false),
  }),
  z.strictObject({
    ...shared,
    type: z.literal("allow"),
    /** In RE2's syntax. The user's last turn, or the answer's text, has to match one of them from end to end. */
    patterns,
    action: withoutRedact.default("block"),
  }),
  z.strictObject({
    ...shared,
    type: z.literal("size"),
    /** Of all texts of a request, or of all that is said in an answer. */
    charsMax: z.int().positive().max(1e9),
    action: withoutRedact.default("block"),
  }),
  z.strictObject({
    ...shared,
    type: z.literal("language"),
    /** The user's last turn and the answer's text have to be in one of them; or in any but those that are denied. */
    allowed: languages.optional(),
    denied: languages.optional(),
    /** Texts of which the language cannot be told: too short, no words, or two languages fit about as well. */
    unknown: z.enum(["pass", "object"], {
      error:
        'say what becomes of texts whose language cannot be told: "pass" or "object" (which does what \'action\' says)',
    }),
    /** By how much languages of one side have to fit better than any of the other: 0 not at all, 1 alone. */
    confidence: z.number().min(0).max(1).default(0.15),
    action: z
      .enum(["block", "flag", "own"], {
        error:
          'expected "block", "flag" or "own"; a language is no part of a text that could be taken out of it',
      })
      .default("block"),
  }),
  z.strictObject({
    ...shared,
    ...asked,
    type: z.literal("webhook"),
    url: z.url({ protocol: /^https?$/ }),
  }),
  z.strictObject({
    ...shared,
    ...asked,
    type: z.literal("model"),
    /** A model or route of this gateway that the project may use. */
    model: z.string().min(1).max(256),
    /** What the model is to look for. */
    instructions: z.string().min(1).max(bounds.instructionsCharsMax),
  }),
]);

export const guardrail = oneGuard
  .refine(({ on, action }) => action !== "own" || !on.includes("answer"), {
    message: "where a request goes is decided before there is an answer: set 'on' to [\"request\"]",
    path: ["on"],
  })
  .refine(
    (guard) =>
      guard.type !== "language" || (guard.allowed === undefined) !== (guard.denied === undefined),
    { message: "name either the languages that are allowed or those that are denied" },
  );
export type Guardrail = z.infer<typeof guardrail>;

export const guardrails = z
  .array(guardrail)
  .max(bounds.guardsMax)
  .refine(
    (all) => new Set(all.map(({ name }) => name)).size === all.length,
    "two guards have one name",
  );
export type Guardrails = z.infer<typeof guardrails>;
