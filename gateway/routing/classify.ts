/** Which task a request is of: what its sender says, else what the route's rules find in the messages. */

import type { Route, TaskRule } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { taskHeader } from "../../sdk/protocol/http.ts";
import type { CallTexts } from "../dialects/dialect.ts";

export type Classified = { task: string; by: "header" | "metadata" | "rule" };

export type ClassifyInput = {
  /** Value of `x-switchyard-task`. */
  header: string | null | undefined;
  metadata: Readonly<Record<string, string>> | null | undefined;
  route: Route | undefined;
  /** Read only where a route has rules. */
  texts: () => Pick<CallTexts, "system" | "user">;
};

/**
 * The header wins, then `metadata.task` (ignored when it is no task's name: the field is the client's own),
 * then the first task of the route with a rule that holds.
 * @throws HubError `invalid_value` for a header that is no task's name
 */
export function classify(input: ClassifyInput): Classified | undefined {
  if (input.header) {
    if (taskName.test(input.header)) return { task: input.header, by: "header" };
    throw new HubError(
      "invalid_value",
      `Invalid '${taskHeader}': expected lower-case letters, digits, '.', '_' or '-', at most 63.`,
      { param: taskHeader },
    );
  }
  const told = input.metadata?.task;
  if (told !== undefined && taskName.test(told)) return { task: told, by: "metadata" };
  if (!input.route) return undefined;
  const texts = fold(input.texts());
  const policy = input.route.tasks.find(({ rules }) => rules.some((rule) => holds(rule, texts)));
  return policy && { task: policy.task, by: "rule" };
}

type Texts = { user: string; userFolded: string; systemFolded: string };

function holds(rule: TaskRule, texts: Texts): boolean {
  return (
    (rule.startsWith === undefined || texts.user.startsWith(rule.startsWith)) &&
    (rule.contains === undefined || texts.userFolded.includes(rule.contains.toLowerCase())) &&
    (rule.systemContains === undefined ||
      texts.systemFolded.includes(rule.systemContains.toLowerCase()))
  );
}

function fold({ user, system }: Pick<CallTexts, "system" | "user">): Texts {
  return { user, userFolded: user.toLowerCase(), systemFolded: system.toLowerCase() };
}

const taskName = /^[a-z0-9][a-z0-9._-]{0,62}$/;
