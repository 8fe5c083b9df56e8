/** `switchyard adapters`: pushed, looked at, promoted on evidence, rolled back. */
import type { Command } from "commander";
import type { Adapter } from "../../protocol/catalog.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import { findProject, keyValue } from "../options.ts";
import { bytes, moment } from "../output/format.ts";
import { openProgress } from "../output/progress.ts";
import { formatTable } from "../output/table.ts";

type PushOptions = {
  base: string;
  name: string;
  alias?: string;
  project?: string;
  shared?: boolean;
  lineage?: Record<string, string>;
  acceptBaseName?: boolean;
};

export function addAdapters(program: Command, cli: Cli): void {
  const adapters = program.command("adapters").description("LoRA adapters and their versions");

  adapters
    .command("push")
    .description("upload a PEFT folder as the adapter's next version")
    .argument("<folder>", "holds adapter_config.json and adapter_model.safetensors")
    .requiredOption("--base <model>", "the base model it was trained on")
    .requiredOption("--name <name>", "the adapter's name")
    .option("--alias <alias>", "let this alias point at the new version")
    .option("--project <name-or-id>", "whose it is, when an admin pushes")
    .option("--shared", "let all projects use it (admins only)")
    .option("--lineage <key=value>", "where it comes from; may be repeated", keyValue)
    .option("--accept-base-name", "push it although its base had another name in training")
    .action((folder: string, options: PushOptions) => push(folder, options, cli));

  adapters
    .command("list")
    .description("adapters that you may use")
    .action(async () => {
      cli.show(await cli.client().adapters.list(), (list) =>
        formatTable(
          list,
          [
            { title: "ADAPTER", cell: ({ base, name }) => `${base}:${name}` },
            { title: "NEWEST", cell: ({ versions }) => newest(versions), right: true },
            { title: "ALIASES", cell: aliasesText },
            { title: "SHARED", cell: ({ shared }) => (shared ? "yes" : "-") },
            { title: "ID", cell: ({ id }) => id },
          ],
          cli.terminal.colours,
        ),
      );
    });

  adapters
    .command("show")
    .description("one adapter's versions")
    .argument("<adapter>", "base:name, name or id")
    .action(async (ref: string) => {
      cli.show(await cli.client().adapters.find(ref), (adapter) => versionsText(adapter, cli));
    });

  adapters
    .command("history")
    .description("who pushed and moved what, and when")
    .argument("<adapter>", "base:name, name or id")
    .option("--at <timestamp>", "until then: who was champion at that moment")
    .action(async (ref: string, options: { at?: string }) => {
      const history = await cli.client().adapters.history(ref, options.at);
      cli.show(history, ({ data }) =>
        formatTable(
          data,
          [
            { title: "WHEN (UTC)", cell: ({ at }) => moment(at) },
            { title: "WHAT", cell: ({ type }) => type },
            { title: "ALIAS", cell: ({ detail }) => String(detail.alias ?? "-") },
            { title: "FROM", cell: ({ detail }) => String(detail.from ?? "-"), right: true },
            {
              title: "TO",
              cell: ({ detail }) => String(detail.to ?? detail.version ?? "-"),
              right: true,
            },
            { title: "BY", cell: ({ actor }) => actor },
            { title: "REASON", cell: ({ detail }) => String(detail.reason ?? "") },
          ],
          cli.terminal.colours,
        ),
      );
    });

  adapters
    .command("promote")
    .description("move an alias to a version; champion needs an eval of it")
    .argument("<adapter@version>", "such as tiny:sorter@3")
    .option("--alias <alias>", "the alias to move", "champion")
    .option("--reason <text>", "kept in the history")
    .option("--force", "move it although no eval measured the version")
    .action(
      async (target: string, options: { alias: string; reason?: string; force?: boolean }) => {
        const { ref, version } = splitVersion(target);
        const moved = await cli.client().adapters.promote(ref, { version, ...options });
        cli.show(moved, (adapter) => aliasMoved(adapter, options.alias, cli));
      },
    );

  adapters
    .command("rollback")
    .description("move an alias back to the version it had before")
    .argument("<adapter>", "base:name, name or id")
    .option("--alias <alias>", "the alias to move", "champion")
    .action(async (ref: string, { alias }: { alias: string }) => {
      const moved = await cli.client().adapters.rollback(ref, alias);
      cli.show(moved, (adapter) => aliasMoved(adapter, alias, cli));
    });
}

async function push(folder: string, options: PushOptions, cli: Cli): Promise<void> {
  const client = cli.client();
  const { project: ref, ...manifest } = options;
  const project = ref === undefined ? undefined : await findProject(client, ref);
  const progress = openProgress("uploading", cli.terminal);
  try {
    const pushed = await client.adapters.push(folder, {
      ...manifest,
      ...(project ? { projectId: project.id } : {}),
      onProgress: ({ sentBytes, totalBytes }) => progress.update(sentBytes, totalBytes),
    });
    progress.stop();
    cli.show(pushed, ({ adapter, version }) => {
      const { bold, dim } = cli.terminal.colours;
      const aliases = aliasesText(adapter);
      return [
        `${bold(`${adapter.base}:${adapter.name}@${version.version}`)}  rank ${version.rank}, ${bytes(version.sizeBytes)}, ${version.targetModules.length} modules`,
        dim(`sha256:${version.digest}${aliases === "-" ? "" : `  ${aliases}`}`),
      ].join("\n");
    });
  } finally {
    progress.stop();
  }
}

function splitVersion(target: string): { ref: string; version: number } {
  const [, ref, version] = /^(.+)@([1-9]\d{0,8})$/.exec(target) ?? [];
  if (ref !== undefined && version !== undefined) return { ref, version: Number(version) };
  throw new UsageError(
    `'${target}' names no version. Write the adapter and its version's number, such as tiny:sorter@3; 'switchyard adapters show NAME' lists them.`,
  );
}

function aliasMoved(adapter: Adapter, alias: string, { terminal }: Cli): string {
  const { bold } = terminal.colours;
  return `${bold(`${adapter.base}:${adapter.name}@${alias}`)} is version ${adapter.aliases[alias] ?? "none"} now.`;
}

function versionsText(adapter: Adapter, { terminal }: Cli): string {
  const aliasesOf = (version: number) =>
    Object.entries(adapter.aliases).flatMap(([alias, at]) => (at === version ? [alias] : []));
  const title = `${terminal.colours.bold(`${adapter.base}:${adapter.name}`)}  ${adapter.id}${adapter.shared ? "  shared with all projects" : ""}`;
  const table = formatTable(
    adapter.versions.toReversed(),
    [
      { title: "VERSION", cell: ({ version }) => String(version), right: true },
      { title: "ALIASES", cell: ({ version }) => aliasesOf(version).join(", ") || "-" },
      { title: "RANK", cell: ({ rank }) => String(rank), right: true },
      { title: "SIZE", cell: ({ sizeBytes }) => bytes(sizeBytes), right: true },
      { title: "PUSHED (UTC)", cell: ({ createdAt }) => moment(createdAt) },
      { title: "BY", cell: ({ createdBy }) => createdBy },
      { title: "DIGEST", cell: ({ digest }) => digest.slice(0, 12) },
    ],
    terminal.colours,
  );
  return `${title}\n${table}`;
}

function newest(versions: Adapter["versions"]): string {
  return versions.length === 0 ? "-" : String(Math.max(...versions.map(({ version }) => version)));
}

function aliasesText({ aliases }: Adapter): string {
  const texts = Object.entries(aliases).map(([alias, version]) => `${alias} -> ${version}`);
  return texts.join(", ") || "-";
}
