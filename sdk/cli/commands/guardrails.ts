/** `switchyard guardrails`: what the project's guardrails would do to a text. */
import { type Command, Option } from "commander";
import type { GuardrailsTest } from "../../client/guardrails.ts";
import type { Cli } from "../cli.ts";
import { integer } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

export function addGuardrails(program: Command, cli: Cli): void {
  program
    .command("guardrails")
    .description("what looks at requests and answers of the key's project")
    .command("test")
    .description(
      "what each guard would do to a text; nothing is sent to models, webhooks or judges",
    )
    .requiredOption("--text <text>", "what is looked at")
    .addOption(
      new Option("--on <side>", "as what").choices(["request", "answer"]).default("request"),
    )
    .action(async (options: { text: string; on: "request" | "answer" }) => {
      cli.show(await cli.client().guardrails.test(options), (found) => testText(found, cli));
    });
}

function testText({ verdict, text, guards }: GuardrailsTest, { terminal }: Cli): string {
  const table = formatTable(
    guards,
    [
      { title: "GUARD", cell: ({ name }) => name },
      { title: "TYPE", cell: ({ type }) => type },
      { title: "DOES", cell: ({ outcome, action }) => outcomes[outcome]?.(action) ?? outcome },
      { title: "HITS", cell: ({ hits }) => integer(hits), right: true },
      {
        title: "KINDS",
        cell: ({ kinds = {} }) =>
          Object.entries(kinds)
            .map(([kind, count]) => `${kind} ${integer(count)}`)
            .join(", ") || "-",
      },
    ],
    terminal.colours,
  );
  return [table, verdicts[verdict], ...(text === null ? [] : [text])].join("\n");
}

const outcomes: Readonly<Record<string, (action: string) => string>> = {
  passes: () => "passes",
  acts: (action) => action,
  unknown: () => "cannot tell, and passes",
  asks: () => "would be asked",
  elsewhere: () => "does not look here",
  not_reached: () => "is not reached",
};

const verdicts: Readonly<Record<GuardrailsTest["verdict"], string>> = {
  passes: "It would go on as:",
  own: "It would go to hardware of one's own alone, as:",
  blocked: "It would go nowhere.",
};
