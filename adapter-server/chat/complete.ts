/** Answers one chat request: the prompt as the model's template writes it, and what comes of it in OpenAI's shapes. */
import { newId } from "../../sdk/protocol/ids.ts";
import type { Piece } from "../generation/choices.ts";
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
import { type ChatPiece, readToolCalls } from "./tool-calls.ts";

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
    promptTokenIds: plan.returnsTokenIds ? prompt : undefined,
    tokenizer: model.tokenizer,
  });
  const newCallId = () => `call_${newId("req", nowMs()).slice(4)}`;
  const read = (pieces: AsyncIterable<Piece>): AsyncIterable<ChatPiece> =>
    plan.tools ? readToolCalls(pieces, plan.tools, newCallId) : pieces;
  return generate(
    parts,
    { plan, prompts: [prompt], caller, startMs },
    {
      whole: (pieces) => toCompletion(head(), read(pieces), plan.choices),
      frames: (pieces) => toFrames(head(), read(pieces), { includeUsage: plan.includeUsage }),
    },
  );
}

/** Only the template writes control tokens: who ends a turn in a message's text has written some letters. */
export function toPrompt(
  { tokenizer, template }: Pick<ServedModel, "tokenizer" | "template">,
  { messages, rendering }: Pick<ChatPlan, "messages" | "rendering">,
): number[] {
  const quoted = <T>(value: T): T => quotedDeep(value, tokenizer.quote);
  const { tools, variables } = rendering;
  const options = { ...rendering, tools: quoted(tools), variables: quoted(variables ?? {}) };
  return tokenizer.encode(template.render(quoted(messages), options));
}

/** @param value plain data, whose every text comes from a client */
function quotedDeep<T>(value: T, quote: (text: string) => string): T;
function quotedDeep(value: unknown, quote: (text: string) => string): unknown {
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return value.map((one) => quotedDeep(one, quote));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [quote(key), quotedDeep(one, quote)]),
  );
}
