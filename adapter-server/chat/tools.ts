/** What a chat request says about tools: which there are, and whether one has to be called. */
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Expression, GrammarText } from "../output/grammar/grammar-text.ts";
import { callsAmongText, callsExpression } from "../output/tools/call-grammar.ts";
import { marksOf, type Tool, type ToolFormat } from "../output/tools/formats.ts";

export type ToolPlan = {
  format: ToolFormat;
  /** Whether the answer is calls alone. */
  forced: boolean;
  /** Whether the client named the function, in which case OpenAI's answers end with `stop`. */
  named: boolean;
  /** Calls beyond it are not told. */
  callsMax: number;
  /** As the chat template gets them; absent for one that knows no tools. */
  offered: readonly unknown[] | undefined;
  /** What calls look like, where they are kept to a form; the answer may be something else unless they are forced. */
  calls: ((text: GrammarText) => Expression) | undefined;
};

const name = z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/);
const functionTool = z.looseObject({
  type: z.literal("function"),
  function: z.looseObject({
    name,
    description: z.string().nullish(),
    parameters: z.record(z.string(), z.unknown()).nullish(),
    strict: z.boolean().nullish(),
  }),
});
const namedTool = z.looseObject({ type: z.literal("function"), function: z.looseObject({ name }) });

export const toolFields = {
  tools: z.array(functionTool).max(128).nullish(),
  tool_choice: z
    .union([
      z.enum(["none", "auto", "required"]),
      namedTool,
      z.looseObject({
        type: z.literal("allowed_tools"),
        allowed_tools: z.looseObject({
          mode: z.enum(["auto", "required"]),
          tools: z.array(namedTool).min(1).max(128),
        }),
      }),
    ])
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};
const fields = z.object(toolFields);
type Request = z.infer<typeof fields>;

/**
 * @param format      how the model's template teaches calls; absent when it knows none
 * @param hasOwnForm  whether the request gives the answer a form beside calls
 * @returns undefined when nothing is to be called
 * @throws HubError `invalid_value`, `unsupported_parameter`
 */
export function readTools(
  request: Request,
  { format, hasOwnForm }: { format: ToolFormat | undefined; hasOwnForm: boolean },
): ToolPlan | undefined {
  const { mode, names } = readChoice(request);
  const all = request.tools ?? [];
  if (all.length === 0) {
    if (mode === "auto" || mode === "none") return undefined;
    throw new HubError("invalid_value", "'tool_choice' needs 'tools' to choose from.", {
      param: "tool_choice",
    });
  }
  refuseDoubles(all.map((tool) => tool.function.name));
  if (mode === "none") return undefined;
  for (const wanted of names ?? []) {
    if (!all.some((tool) => tool.function.name === wanted)) {
      throw new HubError(
        "invalid_value",
        `'tool_choice' names '${wanted}', which is not among 'tools'.`,
        {
          param: "tool_choice",
        },
      );
    }
  }
  const forced = mode !== "auto";
  if (!format && !forced) throw noTools();
  if (forced && hasOwnForm) {
    throw new HubError(
      "invalid_value",
      "An answer that has to be a call has no other form: leave 'response_format' and its like out.",
      { param: "response_format" },
    );
  }
  const tools = all
    .map((tool, index) => toTool(tool, index))
    .filter((tool) => names?.includes(tool.name) ?? true);
  const named = mode === "named";
  const written = format ?? "hermes";
  const callsMax = named || request.parallel_tool_calls === false ? 1 : callsOfOneAnswer;
  return {
    format: written,
    forced,
    named,
    callsMax,
    offered: format && all.filter((tool) => names?.includes(tool.function.name) ?? true),
    calls: callsOf(tools, { format: written, forced, callsMax, hasOwnForm }),
  };
}

/** Calls are kept to a form where they are forced, where a tool is strict, and where the answer has a form otherwise. */
function callsOf(
  tools: readonly Tool[],
  {
    format,
    forced,
    callsMax,
    hasOwnForm,
  }: { format: ToolFormat; forced: boolean; callsMax: number; hasOwnForm: boolean },
): ToolPlan["calls"] {
  if (forced) return (text) => callsExpression(text, { tools, format, callsMax });
  const strict = tools.find((tool) => tool.strict);
  if (!strict && !hasOwnForm) return undefined;
  if (marksOf[format].control) {
    throw new HubError(
      "unsupported_parameter",
      "This model marks calls with control tokens, which no grammar can write: 'strict' tools and a form of the answer need a 'tool_choice' that forces a call, or none.",
      { param: strict ? strict.param.replace(/parameters$/, "strict") : "response_format" },
    );
  }
  const loose = tools.map((tool) =>
    tool.strict ? tool : { ...tool, parameters: { type: "object" } },
  );
  const options = { tools: loose, format, callsMax };
  return (text) => (hasOwnForm ? callsExpression(text, options) : callsAmongText(text, options));
}

function readChoice({ tool_choice: choice }: Request): {
  mode: "none" | "auto" | "required" | "named";
  names?: string[];
} {
  if (choice === null || choice === undefined) return { mode: "auto" };
  if (typeof choice === "string") return { mode: choice };
  if (choice.type === "function") return { mode: "named", names: [choice.function.name] };
  const { mode, tools } = choice.allowed_tools;
  return { mode, names: tools.map((tool) => tool.function.name) };
}

function toTool({ function: given }: z.infer<typeof functionTool>, index: number): Tool {
  return {
    name: given.name,
    parameters: given.parameters ?? undefined,
    strict: given.strict ?? false,
    param: `tools[${index}].function.parameters`,
  };
}

function refuseDoubles(names: readonly string[]): void {
  const double = names.find((one, index) => names.indexOf(one) !== index);
  if (double === undefined) return;
  throw new HubError("invalid_value", `Two tools are called '${double}'.`, { param: "tools" });
}

function noTools(): HubError {
  return new HubError(
    "unsupported_parameter",
    "This model's chat template knows no tools. Force a call with 'tool_choice', or leave 'tools' out.",
    { param: "tools" },
  );
}

const callsOfOneAnswer = 16;
