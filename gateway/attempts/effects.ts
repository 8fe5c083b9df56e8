/** Whether an upstream may do things in the world while it answers. */
import type { Call } from "../dialects/dialect.ts";

/**
 * Tools that a provider runs itself and that may change something: what was begun with them is not begun again.
 * Searches change nothing, and what the client runs is run once it has the answer.
 */
export function mayAct({ body }: Pick<Call, "body">): boolean {
  if (isFilled(body.mcp_servers) || body.container != null) return true;
  return Array.isArray(body.tools) && body.tools.some((tool) => acting.test(typeOf(tool)));
}

function isFilled(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0;
}

function typeOf(tool: unknown): string {
  const type = (tool as { type?: unknown } | null | undefined)?.type;
  return typeof type === "string" ? type : "";
}

/** OpenAI's `mcp`, `code_interpreter` and hosted `shell`; Anthropic's `mcp_toolset` and `code_execution_…`. */
const acting = /^(?:mcp|code_interpreter|code_execution|shell)/;
