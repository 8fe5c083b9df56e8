/** Answers one chat request: the prompt as the model's template writes it, and what comes of it in OpenAI's shapes. */
import { newId } from "../../sdk/protocol/ids.ts";
import {
  type Caller,
  cutPrompt,
  type GenerationParts,
  generate,
  servedName,
} from "../generation/generate.ts";
import type { ServedModel } from "../parts.ts";
import { type AnswerHead, toCompletion, toFrames } from "./answer.ts";
import type { ChatPlan } from "./request.ts";

/** @throws HubError whatever fails before the first token */
export function answerChat(
  parts: GenerationParts,
  plan: ChatPlan,
  caller: Caller,
): Promise<Response> {
  const { model, nowMs, monotonicMs } = parts;
  const startMs = monotonicMs();
  const prompt = cutPrompt(parts, toPrompt(model, plan), plan);
  const head = (): AnswerHead => ({
    id: `chatcmpl-${newId("req", nowMs()).slice(4)}`,
    created: Math.floor(nowMs() / 1000),
    model: servedName(plan, caller),
    fingerprint: model.fingerprint,
    promptTokens: prompt.length,
    tokenizer: model.tokenizer,
  });
  return generate(
    parts,
    { plan, prompts: [prompt], caller, startMs },
    {
      whole: (pieces) => toCompletion(head(), pieces, plan.choices),
      frames: (pieces) => toFrames(head(), pieces, { includeUsage: plan.includeUsage }),
    },
  );
}

/** Only the template writes control tokens: who ends a turn in a message's text has written some letters. */
export function toPrompt(
  { tokenizer, template }: Pick<ServedModel, "tokenizer" | "template">,
  { messages, rendering }: Pick<ChatPlan, "messages" | "rendering">,
): number[] {
  const { quote } = tokenizer;
  const quoted = messages.map(({ role, content }) => ({ role, content: quote(content) }));
  const variables = Object.entries(rendering.variables ?? {}).map(([name, value]) => [
    name,
    typeof value === "string" ? quote(value) : value,
  ]);
  const options = { ...rendering, variables: Object.fromEntries(variables) };
  return tokenizer.encode(template.render(quoted, options));
}
