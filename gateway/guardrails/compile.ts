/** A project's guardrails in the form in which requests meet them; made once for each version of the policy. */

import type { RE2JS } from "re2js";
import type { Guardrail, Guardrails } from "../../sdk/protocol/guardrails.ts";
import type { Detector } from "./detectors/detector.ts";
import { throughDisguises } from "./detectors/disguises.ts";
import type { LanguageRule } from "./detectors/language.ts";
import { compilePattern, patternsDetector } from "./detectors/patterns.ts";
import { piiDetector } from "./detectors/pii.ts";
import { secretsDetector } from "./detectors/secrets.ts";
import { wordsDetector } from "./detectors/words.ts";

type OfType<T extends Guardrail["type"]> = Extract<Guardrail, { type: T }>;

/** Finds things in texts. */
export type FindingGuard = {
  does: "find";
  guard: OfType<"pii" | "secrets" | "regex" | "deny">;
  detector: Detector;
};
/** Says of all that is said whether it may pass. */
export type WholeGuard =
  | { does: "allow"; guard: OfType<"allow">; patterns: readonly RE2JS[] }
  | { does: "size"; guard: OfType<"size"> }
  | { does: "language"; guard: OfType<"language">; rule: LanguageRule };
/** Asks somebody else about it. */
export type AskingGuard = { does: "ask"; guard: OfType<"webhook" | "model"> };
export type CompiledGuard = FindingGuard | WholeGuard | AskingGuard;

const compiled = new WeakMap<Guardrails, readonly CompiledGuard[]>();

/** @throws Error for a pattern that does not compile, which the registry does not take */
export function compileGuards(guardrails: Guardrails): readonly CompiledGuard[] {
  let guards = compiled.get(guardrails);
  if (!guards) {
    guards = guardrails.map(compileGuard);
    compiled.set(guardrails, guards);
  }
  return guards;
}

function compileGuard(guard: Guardrail): CompiledGuard {
  switch (guard.type) {
    case "pii":
      return { does: "find", guard, detector: throughDisguises(piiDetector(guard.kinds)) };
    case "secrets":
      return { does: "find", guard, detector: throughDisguises(secretsDetector) };
    case "regex":
      return {
        does: "find",
        guard,
        detector: throughDisguises(patternsDetector(guard.patterns, guard.windowChars)),
      };
    case "deny":
      return { does: "find", guard, detector: throughDisguises(wordsDetector(guard.words, guard)) };
    case "allow":
      return { does: "allow", guard, patterns: guard.patterns.map(compilePattern) };
    case "size":
      return { does: "size", guard };
    case "language":
      return { does: "language", guard, rule: languageRule(guard) };
    case "webhook":
    case "model":
      return { does: "ask", guard };
    default:
      return guard satisfies never;
  }
}

function languageRule({ allowed, denied = [], confidence }: OfType<"language">): LanguageRule {
  const named = new Set(allowed ?? denied);
  return { isFine: (language) => named.has(language) === (allowed !== undefined), confidence };
}
