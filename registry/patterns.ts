/** Takes only those of an administrator's patterns that the gateway can run in bounded time. */
import { RE2JS } from "re2js";
import { HubError } from "../sdk/protocol/errors.ts";
import { type Guardrails, guardrailBounds } from "../sdk/protocol/guardrails.ts";

/** @throws HubError `invalid_value` naming the pattern */
export function refuseBadPatterns(guardrails: Guardrails | null | undefined): void {
  for (const [index, guard] of (guardrails ?? []).entries()) {
    if (!("patterns" in guard)) continue;
    for (const [at, pattern] of guard.patterns.entries()) {
      const fault = faultOf(pattern);
      if (fault === undefined) continue;
      const param = `guardrails[${index}].patterns[${at}]`;
      throw new HubError("invalid_value", `Invalid '${param}': ${fault}.`, { param });
    }
  }
}

function faultOf(pattern: string): string | undefined {
  const { patternSizeMax } = guardrailBounds;
  try {
    const size = RE2JS.compile(pattern).programSize();
    if (size <= patternSizeMax) return undefined;
    return `it compiles to ${size} instructions, and ${patternSizeMax} are allowed`;
  } catch (error) {
    return `it is no pattern of RE2 (${(error as Error).message})`;
  }
}
