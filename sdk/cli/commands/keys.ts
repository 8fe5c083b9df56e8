/** `switchyard keys`: made, listed, revoked. */
import { type Command, InvalidArgumentError } from "commander";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import {
  addLimitOptions,
  budgetText,
  findProject,
  type LimitOptions,
  limitsOf,
} from "../options.ts";
import { moment } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

type CreateOptions = LimitOptions & {
  project?: string;
  admin?: boolean;
  expiresIn?: number;
};

export function addKeys(program: Command, cli: Cli): void {
  const keys = program.command("keys").description("API keys of projects and admins");

  addLimitOptions(
    keys
      .command("create")
      .description("make a key; its text is shown this once")
      .argument("<name>", "what the key is for")
      .option("--project <name-or-id>", "the project that pays for its requests")
      .option("--admin", "an admin's key, which manages and runs no inference")
      .option("--expires-in <time>", 'such as "12h" or "90d"', readDuration),
  ).action(async (name: string, options: CreateOptions) => {
    if ((options.project === undefined) === (options.admin !== true)) {
      throw new UsageError(
        "Say either --project NAME or --admin: a key belongs to one project, or to an admin.",
      );
    }
    const client = cli.client();
    const project = options.project && (await findProject(client, options.project));
    const limits = limitsOf(options);
    const created = await client.keys.create({
      name,
      role: options.admin === true ? "admin" : "project",
      ...(project ? { projectId: project.id } : {}),
      ...(options.expiresIn === undefined ? {} : { expiresInSeconds: options.expiresIn }),
      ...(limits === undefined ? {} : { limits }),
      ...(options.budget === undefined ? {} : { budget: options.budget }),
    });
    cli.show(created, ({ id, key }) => {
      const { dim } = cli.terminal.colours;
      return `${key}\n${dim(`${id}: keep it now, it is not shown again`)}`;
    });
  });

  keys
    .command("list")
    .description("keys, without their text")
    .option("--project <name-or-id>", "of one project")
    .action(async (options: { project?: string }) => {
      const client = cli.client();
      const project = options.project && (await findProject(client, options.project));
      const found = await client.keys.list(project ? { projectId: project.id } : {});
      cli.show(found, (list) =>
        formatTable(
          list,
          [
            { title: "ID", cell: ({ id }) => id },
            { title: "NAME", cell: ({ name }) => name },
            { title: "ROLE", cell: ({ role }) => role },
            { title: "PROJECT", cell: ({ projectId }) => projectId ?? "-" },
            { title: "BUDGET", cell: ({ budget }) => budgetText(budget), right: true },
            { title: "EXPIRES", cell: ({ expiresAt }) => moment(expiresAt) },
            {
              title: "REVOKED",
              cell: ({ revokedAt }) =>
                revokedAt === undefined ? "-" : cli.terminal.colours.red(moment(revokedAt)),
            },
          ],
          cli.terminal.colours,
        ),
      );
    });

  keys
    .command("revoke")
    .description("end a key at once; this cannot be undone")
    .argument("<id>", "the key's id, such as key_…")
    .action(async (id: string) => {
      await cli.client().keys.revoke(id);
      cli.show({ id, revoked: true }, () => `${id} is revoked.`);
    });
}

function readDuration(text: string): number {
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const seconds = Number(amount) * (unitSeconds[unit ?? ""] ?? 0);
  if (seconds > 0) return seconds;
  throw new InvalidArgumentError('Write a time such as "45m", "12h" or "90d".');
}

const unitSeconds: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
