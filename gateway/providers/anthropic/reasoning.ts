/** How much a model is asked to think: newer ones by effort, those before them by tokens. */
import type { CanonicalRequest, Reasoning, Turn } from "../../canonical/request.ts";
import { openSeal, type SealMaker } from "../../canonical/seal.ts";
import type { Notes } from "./notes.ts";

export type WrittenReasoning = {
  thinking?: { type: string; [field: string]: unknown };
  effort?: string;
};

/**
 * A request that has to call a tool cannot think first, so the thinking is what is left out.
 * @param maker who signs the model's thoughts: Claude is served by others, too
 */
export function writeReasoning(
  { model, reasoning, turns, toolChoice, outputTokensMax }: CanonicalRequest,
  notes: Notes,
  maker: SealMaker = "anthropic",
): WrittenReasoning {
  if (!reasoning) return {};
  if (reasoning.effort === "none" || reasoning.tokensMax === 0) {
    return thinksNever.test(model) ? {} : { thinking: { type: "disabled" } };
  }
  const forced = toolChoice?.type === "required" || toolChoice?.type === "tool";
  if (forced || thinksNever.test(model)) {
    notes.drop("reasoning");
    return {};
  }
  const shown =
    reasoning.visible === undefined
      ? {}
      : { display: reasoning.visible ? "summarized" : "omitted" };
  if (!countsTokens.test(model)) {
    const effort = toEffort(reasoning);
    return { thinking: { type: "adaptive", ...shown }, ...(effort && { effort }) };
  }
  if (isMidLoop(turns, maker)) {
    notes.drop("reasoning");
    return {};
  }
  // The budget is part of the most that may be said, and something has to be left for the answer.
  const budget = Math.max(budgetMin, toBudget(reasoning));
  const fitting = outputTokensMax === undefined ? budget : Math.min(budget, outputTokensMax - 1);
  if (fitting < budgetMin) {
    notes.drop("reasoning");
    return {};
  }
  return { thinking: { type: "enabled", budget_tokens: fitting, ...shown } };
}

/** Whether tools were called last without a thought of its own, from which these models do not go on thinking. */
function isMidLoop(turns: readonly Turn[], maker: SealMaker): boolean {
  const last = turns.findLast((turn) => turn.role === "assistant");
  if (!last?.parts.some(({ type }) => type === "tool_call")) return false;
  return !last.parts.some(
    (part) =>
      part.type === "reasoning" && openSeal(maker, part.signature ?? part.encrypted) !== undefined,
  );
}

function toEffort({ effort, tokensMax }: Reasoning): string | undefined {
  if (effort !== undefined) return effort === "minimal" ? "low" : effort;
  if (tokensMax === undefined) return undefined;
  return tokensMax <= 2048 ? "low" : tokensMax <= 8192 ? "medium" : "high";
}

function toBudget({ effort = "medium", tokensMax }: Reasoning): number {
  return tokensMax ?? budgets[effort];
}

/** Claude 3, its 3.7 excepted. */
const thinksNever = /\bclaude-3-(?!7)/;
/** Claude 3.7 to 4.5, which know no adaptive thinking. */
const countsTokens = /\bclaude-(?:3-7|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:$|@|-\d{8}))/;
const budgetMin = 1024;
const budgets: Readonly<Record<NonNullable<Reasoning["effort"]>, number>> = {
  none: 0,
  minimal: 1024,
  low: 2048,
  medium: 8192,
  high: 16_384,
  xhigh: 24_576,
  // The models that count tokens say at least 32,000.
  max: 31_999,
};
