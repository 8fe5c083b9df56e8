/** `switchyard projects`: who pays, and within which limits. */
import { type Command, Option } from "commander";
import type { Project } from "../../protocol/catalog.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import {
  addLimitOptions,
  budgetText,
  findProject,
  type LimitOptions,
  limitsOf,
} from "../options.ts";
import { integer } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

type ProjectOptions = LimitOptions & {
  name?: string;
  team?: string;
  costCentre?: string;
  unpriced?: "allow" | "refuse";
};

export function addProjects(program: Command, cli: Cli): void {
  const projects = program.command("projects").description("projects, their limits and budgets");

  addProjectOptions(
    projects.command("create").description("make a project").argument("<name>", "unique name"),
  ).action(async (name: string, options: ProjectOptions) => {
    const created = await cli.client().projects.create({ ...toBody(options), name });
    cli.show(created, (project) => table([project], cli));
  });

  projects
    .command("list")
    .description("all projects")
    .action(async () => {
      cli.show(await cli.client().projects.list(), (list) => table(list, cli));
    });

  addProjectOptions(
    projects
      .command("update")
      .description("change what is given and leave the rest")
      .argument("<name-or-id>")
      .option("--name <name>", "another name"),
  )
    .option("--remove-budget", "have no budget from now on")
    .action(async (ref: string, options: ProjectOptions & { removeBudget?: boolean }) => {
      const client = cli.client();
      const body = {
        ...toBody(options),
        ...(options.name === undefined ? {} : { name: options.name }),
        ...(options.removeBudget === true ? { budget: null } : {}),
      };
      if (Object.keys(body).length === 0) {
        throw new UsageError(
          "Nothing to change was given. See 'switchyard projects update --help'.",
        );
      }
      const { id } = await findProject(client, ref);
      cli.show(await client.projects.update(id, body), (project) => table([project], cli));
    });
}

function addProjectOptions(command: Command): Command {
  return addLimitOptions(
    command
      .option("--team <team>", "as reports group by it")
      .option("--cost-centre <code>", "as reports group by it")
      .addOption(
        new Option("--unpriced <what>", "requests to models without a price").choices([
          "allow",
          "refuse",
        ]),
      ),
  );
}

function toBody(options: ProjectOptions) {
  const { team, costCentre, unpriced, budget } = options;
  const limits = limitsOf(options);
  return {
    ...(team === undefined ? {} : { team }),
    ...(costCentre === undefined ? {} : { costCentre }),
    ...(unpriced === undefined ? {} : { unpriced }),
    ...(limits === undefined ? {} : { limits }),
    ...(budget === undefined ? {} : { budget }),
  };
}

function table(list: readonly Project[], { terminal }: Cli): string {
  return formatTable(
    list,
    [
      { title: "ID", cell: ({ id }) => id },
      { title: "NAME", cell: ({ name }) => name },
      { title: "TEAM", cell: ({ team }) => team ?? "-" },
      { title: "BUDGET", cell: ({ budget }) => budgetText(budget), right: true },
      { title: "REQ/MIN", cell: ({ limits }) => integer(limits.requestsPerMinute), right: true },
      { title: "TOKENS/MIN", cell: ({ limits }) => integer(limits.tokensPerMinute), right: true },
      { title: "AT ONCE", cell: ({ limits }) => integer(limits.concurrentRequests), right: true },
      { title: "UNPRICED", cell: ({ unpriced }) => unpriced },
    ],
    terminal.colours,
  );
}
