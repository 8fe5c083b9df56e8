/** Turns chat messages into the text that a model was trained on, by the Jinja template that it carries. */
import { Template } from "@huggingface/jinja";
import { HubError } from "../../sdk/protocol/errors.ts";

/** A message as templates know it. */
export type TemplateMessage = { role: string; content: string };

export type ChatTemplate = {
  /**
   * The messages, then the opening of the assistant's answer.
   * @throws HubError `invalid_value` with the template's own words when it refuses the messages
   */
  render(messages: readonly TemplateMessage[], options?: { generationPrompt?: boolean }): string;
};

/**
 * @param source         Jinja as in `chat_template.jinja` or `tokenizer_config.json`
 * @param specialTokens  `bos_token` and its like, which templates write out
 * @throws HubError `unsupported_model` when the template cannot be parsed
 */
export function createChatTemplate(
  source: string,
  specialTokens: Readonly<Record<string, string>>,
): ChatTemplate {
  const template = parse(source);
  return {
    render(messages, { generationPrompt = true } = {}) {
      const context = { ...specialTokens, messages, add_generation_prompt: generationPrompt };
      try {
        return template.render(context);
      } catch (cause) {
        // `raise_exception` is how a template says which order of roles its model knows.
        const reason = cause instanceof Error ? cause.message : String(cause);
        throw new HubError(
          "invalid_value",
          `The model's chat template refuses these messages: ${reason}`,
          {
            param: "messages",
            cause,
          },
        );
      }
    },
  };
}

function parse(source: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    throw new HubError("unsupported_model", "The model's chat template cannot be parsed.", {
      cause,
    });
  }
}
