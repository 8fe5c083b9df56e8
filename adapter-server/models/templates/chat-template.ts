/** Turns chat messages into the text that a model was trained on, by the Jinja template that it carries. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { JinjaBoundError, type JinjaTemplate, parseJinja, renderJinja } from "./bounded-jinja.ts";
import { strftime } from "./strftime.ts";

/** A message as templates know it. */
export type TemplateMessage = {
  role: string;
  content: string;
  tool_calls?: { id: string; type: "function"; function: { name: string; arguments: unknown } }[];
  /** The call that a tool's message answers, and what was called. */
  tool_call_id?: string;
  name?: string;
};

export type ChatTemplate = {
  /**
   * The messages, then the opening of the assistant's answer, or what the last message leaves open.
   * @throws HubError `invalid_value` with the template's own words when it refuses the messages,
   *   `unsupported_model` when it takes more work or makes more text than messages like these call for
   */
  render(messages: readonly TemplateMessage[], options?: RenderOptions): string;
};

export type RenderOptions = {
  /** Whether the opening of the assistant's answer follows the messages; true when absent. */
  generationPrompt?: boolean;
  /** Whether the text ends with the last message's own words, to be continued. */
  continueFinal?: boolean;
  /** Functions that the model may call, as OpenAI's clients describe them. */
  tools?: readonly unknown[] | undefined;
  /** What else the template may ask for, such as `enable_thinking`; it cannot stand for what templates get anyway. */
  variables?: Readonly<Record<string, unknown>>;
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
    render(messages, options = {}) {
      const { generationPrompt = true, continueFinal = false } = options;
      const variables = {
        ...options.variables,
        ...specialTokens,
        messages,
        tools: options.tools,
        add_generation_prompt: generationPrompt,
        strftime_now: (format: unknown) => strftime(new Date(nowMs()), String(format)),
      };
      try {
        const text = renderJinja(template, variables, boundsFor(messages, options.tools));
        return continueFinal ? upToFinalWords(text, messages) : text;
      } catch (cause) {
        throw toHubError(cause);
      }
    },
  };
}

/**
 * Cuts off what the template writes behind the last message.
 * @see `continue_final_message` of `apply_chat_template` in transformers
 */
function upToFinalWords(text: string, messages: readonly TemplateMessage[]): string {
  const words = messages.at(-1)?.content ?? "";
  const start = text.lastIndexOf(words.trim());
  if (words.trim() === "" || start === -1) {
    throw new HubError(
      "invalid_value",
      "'continue_final_message' needs a last message with text that the model's chat template keeps.",
      { param: "continue_final_message" },
    );
  }
  const kept = words.trimStart();
  // A template may take the spaces at the end away.
  const end = text.startsWith(kept, start) ? kept : words.trim();
  return text.slice(0, start + end.length);
}

/** Far above what real templates need: some 200 steps for a message, its content a few times over. */
function boundsFor(messages: readonly TemplateMessage[], tools: readonly unknown[] = []) {
  const called = messages.flatMap(({ tool_calls = [] }) => tool_calls);
  // Templates go through parameters one by one, or write them as JSON.
  const described = JSON.stringify([...tools, ...called]).length;
  const chars =
    messages.reduce((sum, { role, content }) => sum + role.length + content.length, 0) + described;
  const things = messages.length + called.length + tools.length;
  return {
    workMax: 1_000_000 + 2_000 * things + 2 * chars + 20 * described,
    sizeMax: 4_000_000 + 100 * things + 4 * chars + 20 * described,
  };
}

function toHubError(cause: unknown): HubError {
  if (cause instanceof HubError) return cause;
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
