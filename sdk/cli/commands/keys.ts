/** `switchyard keys`: made, listed, rotated, revoked. */
import { type Command, Option } from "commander";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import {
  addLimitOptions,
  budgetText,
  commaList,
  findProject,
  keyValue,
  type LimitOptions,
  limitsOf,
  readDuration,
} from "../options.ts";
import { moment } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

type CreateOptions = LimitOptions & {
  project?: string;
  admin?: boolean;
  mine?: boolean;
  costCentre?: string;
  tag?: Record<string, string>;
  expiresIn?: number;
  models?: string[];
  endpoints?: string[];
  addresses?: string[];
};

export function addKeys(program: Command, cli: Cli): void {
  const keys = program.command("keys").description("API keys of projects and admins");

  addLimitOptions(
    keys
      .command("create")
      .description("make a key; its text is shown this once")
      .argument("<name>", "what the key is for")
      .option("--project <name-or-id>", "the project that pays for its requests")
      .option("--admin", "an admin's key, which manages and runs no models")
      .option(
        "--mine",
        "your own, in a project that you are a member of ('switchyard login' first)",
      )
      .option("--cost-centre <code>", "where its requests are booked, in place of the project's")
      .option("--tag <key=value>", "on every line of the ledger; may be repeated", keyValue)
      .option("--expires-in <time>", 'such as "12h" or "90d"', readDuration)
      .option("--models <names>", "only these models, adapters and routes", commaList)
      .option("--endpoints <paths>", "only these addresses, such as /v1/embeddings", commaList)
      .option("--addresses <ranges>", "only from these, such as 10.0.0.0/8", commaList),
  ).action(async (name: string, options: CreateOptions) => {
    if ((options.project === undefined) === (options.admin !== true)) {
      throw new UsageError(
        "Say either --project NAME or --admin: a key belongs to one project, or to an admin.",
      );
    }
    if (options.mine && (options.costCentre !== undefined || options.tag)) {
      throw new UsageError("Cost centre and tags of a key are an administrator's to give.");
    }
    const client = cli.client();
    const project = options.project && (await findProject(client, options.project));
    const limits = limitsOf(options);
    const { models, endpoints, addresses } = options;
    const scopes = {
      ...(models && { models }),
      ...(endpoints && { endpoints }),
      ...(addresses && { addresses }),
    };
    const { costCentre, tag: tags } = options;
    const wanted = {
      name,
      ...(options.expiresIn === undefined ? {} : { expiresInSeconds: options.expiresIn }),
      ...(Object.keys(scopes).length > 0 && { scopes }),
      ...(limits === undefined ? {} : { limits }),
    };
    const created =
      options.mine && project
        ? await client.keys.own.create({
            ...wanted,
            projectId: project.id,
            ...(options.budget === undefined ? {} : { budgets: [options.budget] }),
          })
        : await client.keys.create({
            ...wanted,
            role: options.admin === true ? "admin" : "project",
            ...(project ? { projectId: project.id } : {}),
            ...(options.budget === undefined ? {} : { budget: options.budget }),
            ...(costCentre === undefined ? {} : { costCentre }),
            ...(tags && { tags }),
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
    .option("--mine", "your own")
    .action(async (options: { project?: string; mine?: boolean }) => {
      const client = cli.client();
      const project = options.project && (await findProject(client, options.project));
      const found = options.mine
        ? (await client.keys.own.list()).filter(
            ({ projectId }) => !project || projectId === project.id,
          )
        : await client.keys.list(project ? { projectId: project.id } : {});
      cli.show(found, (list) =>
        formatTable(
          list,
          [
            { title: "ID", cell: ({ id }) => id },
            { title: "NAME", cell: ({ name }) => name },
            { title: "KEY", cell: ({ redacted }) => redacted ?? "-" },
            { title: "ROLE", cell: ({ role }) => role },
            { title: "PROJECT", cell: ({ projectId }) => projectId ?? "-" },
            { title: "BUDGET", cell: ({ budget }) => budgetText(budget), right: true },
            { title: "OWNER", cell: ({ ownerName, ownerId }) => ownerName ?? ownerId ?? "-" },
            { title: "USED", cell: ({ lastUsedAt }) => moment(lastUsedAt) },
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
    .command("rotate")
    .description("give a key a new text; budget, limits and reports stay the key's own")
    .argument("<id>", "the key's id, such as key_…")
    .addOption(
      new Option("--overlap <time>", "how long the old text goes on")
        .argParser(readDuration)
        .default(86_400, "1d"),
    )
    .option("--now", "the old text ends at once")
    .option("--mine", "a key of your own")
    .action(async (id: string, options: { overlap: number; now?: boolean; mine?: boolean }) => {
      const overlapSeconds = options.now ? 0 : options.overlap;
      const { keys } = cli.client();
      const rotated = await (options.mine ? keys.own : keys).rotate(id, { overlapSeconds });
      cli.show(rotated, ({ key, previousUntil }) => {
        const { dim } = cli.terminal.colours;
        const old = previousUntil ? `goes on until ${moment(previousUntil)}` : "has ended";
        return `${key}\n${dim(`${id}: keep it now, it is not shown again; the old text ${old}`)}`;
      });
    });

  keys
    .command("revoke")
    .description("end a key at once; this cannot be undone")
    .argument("<id>", "the key's id, such as key_…")
    .option("--mine", "a key of your own")
    .action(async (id: string, options: { mine?: boolean }) => {
      const { keys } = cli.client();
      await (options.mine ? keys.own : keys).revoke(id);
      cli.show({ id, revoked: true }, () => `${id} is revoked.`);
    });
}
