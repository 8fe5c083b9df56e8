/** `switchyard datasets`: pushed once, pinned by their SHA-256. */
import type { Command } from "commander";
import type { Dataset } from "../../protocol/evals.ts";
import type { Cli } from "../cli.ts";
import { findProject } from "../options.ts";
import { bytes, integer, moment } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

export function addDatasets(program: Command, cli: Cli): void {
  const datasets = program.command("datasets").description("rows to measure candidates on");

  datasets
    .command("push")
    .description("upload a file of JSON lines")
    .argument("<file>", 'rows {"messages": [...]} or {"input": "...", "ideal": "..."}')
    .option("--name <name>", "instead of the file's name")
    .option("--project <name-or-id>", "whose it is, when an admin pushes")
    .action(async (file: string, { name, project }: { name?: string; project?: string }) => {
      const client = cli.client();
      const projectId = project && (await findProject(client, project)).id;
      const pushed = await client.datasets.push(file, {
        name,
        ...(projectId ? { projectId } : {}),
      });
      cli.show(pushed, (dataset) => table([dataset], cli));
    });

  datasets
    .command("list")
    .description("datasets of your project")
    .action(async () => {
      cli.show(await cli.client().datasets.list(), (list) => table(list, cli));
    });
}

function table(list: readonly Dataset[], { terminal }: Cli): string {
  return formatTable(
    list,
    [
      { title: "NAME", cell: ({ name }) => name },
      { title: "ROWS", cell: ({ rows }) => integer(rows), right: true },
      { title: "SIZE", cell: ({ sizeBytes }) => bytes(sizeBytes), right: true },
      { title: "PUSHED (UTC)", cell: ({ createdAt }) => moment(createdAt) },
      { title: "SHA-256", cell: ({ sha256 }) => sha256 },
    ],
    terminal.colours,
  );
}
