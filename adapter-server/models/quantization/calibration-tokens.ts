/** The calibration text as a model reads it: its own tokenizer, its own chat template where it has one. */

import type { ModelSource } from "../model-source.ts";
import { createChatTemplate } from "../templates/chat-template.ts";
import { createTokenizer } from "../tokenizer.ts";
import { conversations, passages } from "./calibration-text.ts";

/**
 * @returns token ids, one list for each text, none longer than `lengthMax`
 * @throws HubError `unsupported_model` when the tokenizer cannot be read
 */
export function calibrationTokens({
  tokenizer: files,
  chatTemplate,
  spec,
}: Pick<ModelSource, "tokenizer" | "chatTemplate" | "spec">): number[][] {
  const tokenizer = createTokenizer(files);
  const render = renderer(chatTemplate, tokenizer.specialTokens);
  const texts = [...conversations.map(render), ...passages];
  const { contextLength, vocabSize } = spec.dims;
  const lengthMax = Math.min(sequenceTokensMax, contextLength);
  const sequences = texts
    .map((text) => tokenizer.encode(text).slice(0, lengthMax))
    .map((tokens) => tokens.filter((token) => token < vocabSize))
    .filter((tokens) => tokens.length > 0);
  return sequences.length > 0 ? sequences : [spreadTokens(lengthMax, vocabSize)];
}

/** Tokens from all over the vocabulary, for a tokenizer that knows nothing of our texts. */
function spreadTokens(count: number, vocabSize: number): number[] {
  return Array.from({ length: count }, (_, index) => Math.floor((index * vocabSize) / count));
}

/** A template may know other roles than ours, or none; then the words alone have to do. */
function renderer(source: string | undefined, specialTokens: Readonly<Record<string, string>>) {
  return (messages: (typeof conversations)[number]): string => {
    try {
      const template = createChatTemplate(source ?? "", specialTokens);
      const text = template.render(messages, { generationPrompt: false });
      if (text.trim() !== "") return text;
    } catch {
      // Told when the model is served, where it matters.
    }
    return messages.map(({ content }) => content).join("\n\n");
  };
}

const sequenceTokensMax = 96;
