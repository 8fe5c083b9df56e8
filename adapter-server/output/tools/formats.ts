/** How families of models write tool calls, and which way a chat template teaches. */

export const toolFormats = ["hermes", "llama3_json", "mistral"] as const;
export type ToolFormat = (typeof toolFormats)[number];

/** What stands around calls. */
export type CallMarks = {
  /** Where a call begins in the middle of text. */
  start: string;
  /** Where it ends; absent where JSON's own end is the call's. */
  end?: string;
  /** Whether an answer that begins with a brace is a call without its mark. */
  bare: boolean;
  /** Whether the marks are control tokens, which no text of a client and no grammar can write. */
  control: boolean;
  /** What a model of the family calls the arguments; readers take either name. */
  argumentsName: "arguments" | "parameters";
};

export const marksOf: Record<ToolFormat, CallMarks> = {
  /** Hermes, Qwen, SmolLM: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`. */
  hermes: {
    start: "<tool_call>",
    end: "</tool_call>",
    bare: false,
    control: false,
    argumentsName: "arguments",
  },
  /** Llama 3.1 and 3.2: `{"name": …, "parameters": {…}}`, with `<|python_tag|>` before it or nothing. */
  llama3_json: {
    start: "<|python_tag|>",
    bare: true,
    control: true,
    argumentsName: "parameters",
  },
  /** Mistral: `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, or `[TOOL_CALLS]name{…}` of later ones. */
  mistral: { start: "[TOOL_CALLS]", bare: false, control: true, argumentsName: "arguments" },
};

/** The format that a template teaches its model; absent when it knows no tools. */
export function toolFormatOf(template: string): ToolFormat | undefined {
  if (!/\btools\b/.test(template)) return undefined;
  if (template.includes("[TOOL_CALLS]")) return "mistral";
  if (template.includes("<tool_call>")) return "hermes";
  if (template.includes("<|python_tag|>") || template.includes('"parameters"'))
    return "llama3_json";
  return "hermes";
}

/** A function as a client offers it. */
export type Tool = {
  name: string;
  /** A JSON schema of an object; absent takes no arguments. */
  parameters?: Readonly<Record<string, unknown>> | undefined;
  strict: boolean;
  /** Where its parameters stand in the request. */
  param: string;
};
