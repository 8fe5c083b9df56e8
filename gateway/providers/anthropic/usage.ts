/** Anthropic's counts as our vector: its input counts are disjoint already, its output includes the thinking. */
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { ReadUsage } from "../../ledger/usage.ts";
import { type AnthropicUsage, anthropicUsage } from "./schema.ts";

/** Of a stream: totals so far, of which a later one replaces an earlier. */
export class UsageTotals {
  #totals: AnthropicUsage = {};

  /** What is absent or null says nothing. */
  add(reported: unknown): void {
    const parsed = anthropicUsage.safeParse(reported);
    if (!parsed.success) return;
    const told = Object.entries(parsed.data).filter(([, value]) => value != null);
    this.#totals = { ...this.#totals, ...Object.fromEntries(told) };
  }

  /** `undefined` while the input or the output was not told: unknown, and not zero. */
  read(): ReadUsage | undefined {
    return toReadUsage(this.#totals);
  }
}

export function readAnthropicUsage(reported: unknown): ReadUsage | undefined {
  const totals = new UsageTotals();
  totals.add(reported);
  return totals.read();
}

function toReadUsage(totals: AnthropicUsage): ReadUsage | undefined {
  const { input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens } =
    totals;
  if (input_tokens == null || output_tokens == null) return undefined;
  const told = totals.output_tokens_details?.thinking_tokens ?? undefined;
  const reasoning = told === undefined ? undefined : Math.min(told, output_tokens);
  const usage: UsageVector = { input: input_tokens };
  if (cache_read_input_tokens != null) usage.cache_read = cache_read_input_tokens;
  if (cache_creation_input_tokens != null) usage.cache_write = cache_creation_input_tokens;
  usage.output = output_tokens - (reasoning ?? 0);
  if (reasoning !== undefined) usage.reasoning = reasoning;
  return { usage, inconsistent: reasoning !== told };
}
