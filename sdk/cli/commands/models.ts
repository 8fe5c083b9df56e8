/** `switchyard models`: everything that a request's `model` may say. */
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { formatTable } from "../output/table.ts";

export function addModels(program: Command, cli: Cli): void {
  const models = program.command("models").description("models that your key may use");
  models
    .command("list")
    .description("bases, adapters over them, and routes")
    .action(async () => {
      cli.show(await cli.client().models.list(), (list) =>
        formatTable(
          list,
          [
            { title: "MODEL", cell: ({ id }) => id },
            { title: "BASE", cell: ({ parent }) => parent ?? "-" },
            { title: "OWNED BY", cell: ({ owned_by }) => owned_by },
          ],
          cli.terminal.colours,
        ),
      );
    });
}
