/** Answers one text completion request: its prompts, and what comes of them in OpenAI's older shapes. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import {
  type Caller,
  cutPrompt,
  type GenerationParts,
  generate,
  servedName,
} from "../generation/generate.ts";
import { readWithPauses } from "../generation/pauses.ts";
import { type ReadPrompt, type TextHead, toTextCompletion, toTextFrames } from "./answer.ts";
import type { TextPlan } from "./request.ts";

/** @throws HubError whatever fails before the first token */
export async function answerText(
  parts: GenerationParts,
  plan: TextPlan,
  caller: Caller,
): Promise<Response> {
  const { model, nowMs, monotonicMs } = parts;
  const startMs = monotonicMs();
  const prompts = await readPrompts(parts, plan);
  const head = (): TextHead => ({
    ...plan,
    id: `cmpl-${newId("req", nowMs()).slice(4)}`,
    created: Math.floor(nowMs() / 1000),
    model: servedName(plan, caller),
    fingerprint: model.fingerprint,
    prompts,
    tokenizer: model.tokenizer,
  });
  return generate(
    parts,
    { plan, prompts: prompts.map(({ tokens }) => tokens), caller, startMs },
    {
      whole: (pieces) => toTextCompletion(head(), pieces),
      frames: (pieces) => toTextFrames(head(), pieces, plan),
    },
  );
}

/**
 * The client writes the whole prompt, control tokens included: there is no template that would write them for it.
 * @throws HubError `invalid_value` for a prompt without tokens, `number_out_of_range` for too many in all
 */
function readPrompts(parts: GenerationParts, plan: TextPlan): Promise<ReadPrompt[]> {
  const { tokenizer } = parts.model;
  const { addSpecialTokens } = plan;
  const { promptTokensMax } = parts.limits;
  let total = 0;
  const read = (prompt: TextPlan["prompts"][number], index: number): ReadPrompt => {
    const all =
      typeof prompt === "string" ? tokenizer.encode(prompt, { addSpecialTokens }) : prompt;
    const tokens = cutPrompt(parts, all, plan);
    if (tokens.length === 0) {
      const param = plan.prompts.length === 1 ? "prompt" : `prompt[${index}]`;
      throw new HubError("invalid_value", `Invalid '${param}': it has no tokens.`, { param });
    }
    total += tokens.length;
    if (total > promptTokensMax) {
      throw new HubError(
        "number_out_of_range",
        `Invalid 'prompt': the prompts of one request may have ${promptTokensMax} tokens together. Send them in several.`,
        { param: "prompt" },
      );
    }
    const isWhole = typeof prompt === "string" && tokens.length === all.length;
    const text = isWhole ? prompt : tokenizer.decode(tokens, { skipSpecialTokens: false });
    return { tokens, text };
  };
  return readWithPauses(plan.prompts, read, parts.monotonicMs);
}
