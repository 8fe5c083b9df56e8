/** Turns chat messages into the text that a model was trained on, by the Jinja template that it carries. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { JinjaBoundError, type JinjaTemplate, parseJinja, renderJinja } from "./bounded-jinja.ts";
import { strftime } from "./strftime.ts";

/** A message as templates know it. */
export type TemplateMessage = { role: string; content: string };

export type ChatTemplate = {
  /**
   * The messages, then the opening of the assistant's answer.
   * @throws HubError `invalid_value` with the template's own words when it refuses the messages,
   *   `unsupported_model` when it takes more work or makes more text than messages like these call for
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
  nowMs: () => number = Date.now,
): ChatTemplate {
  const template = parse(source);
  return {
    render(messages, { generationPrompt = true } = {}) {
      const variables = {
        ...specialTokens,
        messages,
        add_generation_prompt: generationPrompt,
        strftime_now: (format: unknown) => strftime(new Date(nowMs()), String(format)),
      };
      try {
        return renderJinja(template, variables, boundsFor(messages));
      } catch (cause) {
        throw toHubError(cause);
      }
    },
  };
}

/** Far above what real templates need: some 200 steps for a message, its content a few times over. */
function boundsFor(messages: readonly TemplateMessage[]) {
  const chars = messages.reduce((sum, { role, content }) => sum + role.length + content.length, 0);
  return {
    workMax: 1_000_000 + 2_000 * messages.length + 2 * chars,
    sizeMax: 4_000_000 + 100 * messages.length + 4 * chars,
  };
}

function toHubError(cause: unknown): HubError {
  const reason = (cause instanceof Error ? cause.message : String(cause)).slice(0, reasonCharsMax);
  // A stack that runs over is one more way to want too much.
  if (cause instanceof JinjaBoundError || cause instanceof RangeError) {
    return new HubError(
      "unsupported_model",
      `The model's chat template is not run to its end: ${reason}.`,
      { cause },
    );
  }
  // `raise_exception` is how a template says which order of roles its model knows.
  return new HubError(
    "invalid_value",
    `The model's chat template refuses these messages: ${reason}`,
    { param: "messages", cause },
  );
}

function parse(source: string): JinjaTemplate {
  try {
    return parseJinja(source);
  } catch (cause) {
    const reason = cause instanceof JinjaBoundError ? `: ${cause.message}` : "";
    throw new HubError(
      "unsupported_model",
      `The model's chat template cannot be parsed${reason}.`,
      {
        cause,
      },
    );
  }
}

/** A sentence or two; a template may say megabytes. */
const reasonCharsMax = 1000;
