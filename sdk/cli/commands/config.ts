/** `switchyard config`: is a settings file right, before anything starts with it. */
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";

/**
 * Checks a settings file, the one that a start would find when none is named.
 * @returns what it says, as facts to show
 * @throws Error that names file, line and field
 */
export type ConfigCheck = (file: string | undefined) => Promise<Record<string, string | number>>;

export function addConfig(program: Command, cli: Cli, check: ConfigCheck | undefined): void {
  const config = program.command("config").description("the settings of a server");
  config
    .command("check")
    .description("read the settings as a start would, and start nothing")
    .argument("[file]", "else SWITCHYARD_CONFIG, else switchyard.yaml")
    .action(async (file: string | undefined) => {
      if (!check) throw new UsageError("The server is not installed here, only its client.");
      cli.show(await check(file), (facts) => {
        const lines = Object.entries(facts).map(([name, fact]) => `${name}: ${fact}`);
        return [cli.terminal.colours.green("the settings are right"), ...lines].join("\n");
      });
    });
}
