/** The whole command line: `switchyard NOUN VERB`. */
import { Command, Help, type Option } from "commander";
import { type Cli, openCli } from "./cli.ts";
import { addAdapters } from "./commands/adapters.ts";
import { addBatches } from "./commands/batches.ts";
import { addBudgets } from "./commands/budgets.ts";
import { addChat } from "./commands/chat.ts";
import { addConfig, type ConfigCheck } from "./commands/config.ts";
import { addDatasets } from "./commands/datasets.ts";
import { addEngine } from "./commands/engine.ts";
import { addEvals } from "./commands/evals.ts";
import { addFiles } from "./commands/files.ts";
import { addGuardrails } from "./commands/guardrails.ts";
import { addKeys } from "./commands/keys.ts";
import { addLogin } from "./commands/login.ts";
import { addLogs } from "./commands/logs.ts";
import { addModels } from "./commands/models.ts";
import { addPrices } from "./commands/prices.ts";
import { addProjects } from "./commands/projects.ts";
import { addReport } from "./commands/report.ts";
import { addRoutes } from "./commands/routes.ts";
import { addServe, type Serve } from "./commands/serve.ts";
import type { Simulate } from "./engine-simulation.ts";
import type { OpenLocalModels } from "./local-models.ts";
import type { Terminal } from "./output/terminal.ts";

/** What the command line can do only where the servers are installed as well. */
export type Hooks = {
  configCheck?: ConfigCheck;
  serve?: Serve;
  models?: OpenLocalModels;
  simulate?: Simulate;
  version?: string;
};

export function createProgram(hooks: Hooks, terminal: Terminal): { program: Command; cli: Cli } {
  const program: Command = new Command("switchyard")
    .description("Models, adapters, evals, routes, costs and keys of a Switchyard.")
    .option("--url <url>", "where the server is (default: SWITCHYARD_URL, else 127.0.0.1:8787)")
    .option("--json", "answer in JSON, for programs")
    .configureHelp({
      showGlobalOptions: true,
      sortSubcommands: false,
      // What a command above searches by is not for the commands under it.
      visibleGlobalOptions: (command) =>
        command === program ? [] : program.options.filter(({ long }) => long !== "--version"),
      optionDescription: describeOption,
    })
    .showSuggestionAfterError()
    .showHelpAfterError("(add --help for how to write it)")
    .addHelpText(
      "after",
      "\nExit codes: 0 done, 1 failed, 2 wrong use, 3 inconclusive.\nKeys: SWITCHYARD_API_KEY, SWITCHYARD_ADMIN_KEY, else who is logged in, else those of the server on this machine.",
    );
  if (hooks.version !== undefined)
    program.version(hooks.version, "-V, --version", "the version of this program");
  const cli = openCli(program, terminal);
  addChat(program, cli);
  addModels(program, cli, hooks.models);
  addAdapters(program, cli);
  addDatasets(program, cli);
  addEvals(program, cli);
  addFiles(program, cli);
  addBatches(program, cli);
  addRoutes(program, cli);
  addGuardrails(program, cli);
  addReport(program, cli);
  addLogs(program, cli);
  addBudgets(program, cli);
  addPrices(program, cli);
  addProjects(program, cli);
  addKeys(program, cli);
  addLogin(program, cli);
  addConfig(program, cli, hooks.configCheck);
  addServe(program, hooks.serve);
  addEngine(program, cli, hooks.simulate);
  return { program, cli };
}

function describeOption(option: Option): string {
  const told = Help.prototype.optionDescription(option);
  return option.mandatory ? `${told} (required)` : told;
}
