/** `switchyard models`: the models of this machine, and those that a server offers. */
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import type { Cli } from "../cli.ts";
import { exitCodes, UsageError } from "../failure.ts";
import type { LocalModels, OpenLocalModels, Removal, Verdict } from "../local-models.ts";
import { commaList } from "../options.ts";
import { bytes } from "../output/format.ts";
import { openProgress } from "../output/progress.ts";
import { formatTable } from "../output/table.ts";
import {
  factsText,
  importedText,
  libraryText,
  planText,
  pulledText,
  removalText,
  verdictsText,
} from "./models-text.ts";

const sourceHelp = "a folder, a .gguf file, or hf:owner/name@revision of what was pulled";
const modelHelp = "a digest or its first digits, hf:owner/name@revision, or a path";

/** @param open opens the models of this machine; absent where only the client is installed */
export function addModels(program: Command, cli: Cli, open: OpenLocalModels | undefined): void {
  const library = async (): Promise<LocalModels> => {
    if (!open) throw new UsageError("The server is not installed here, only its client.");
    return open(cli.terminal.env);
  };
  const models = program
    .command("models")
    .description("models of this machine: imported, pulled; and those of a server")
    .addHelpText(
      "after",
      "\nThey lie in the data folder: SWITCHYARD_DATA_DIR, else .switchyard. Only 'pull' uses the network.",
    );

  models
    .command("list")
    .description("what was imported and pulled on this machine")
    .action(async () => {
      cli.show(await (await library()).list(), (all) => libraryText(all, cli.terminal.colours));
    });

  models
    .command("import")
    .description("turn a checkpoint into what the engine runs, once for each format")
    .argument("<source>", sourceHelp)
    .option(
      "--format <format>",
      "auto (measured here), mix, int8 (fast), int8-a16 or int8-blocks (nearer to exact), int4 or int4-128 (small), f32 (exact)",
      "auto",
    )
    .option(
      "--single-stream <format>",
      "keep int4 or int4-128 beside it for steps in which one sequence decodes, where that is quicker here",
    )
    .option("--force", "import it although it does not fit into this machine's memory")
    .addHelpText("after", "\nExample: switchyard models import deploy/demo-model/base")
    .action((source: string, options: ImportOptions) => runImport(source, options, library, cli));

  models
    .command("pull")
    .description("fetch a model from the Hugging Face hub, or go on with a pull that was cut off")
    .argument("<model>", "hf:owner/name@revision; the revision is main without it")
    .option("--file <path>", "one GGUF file of the repository, instead of safetensors")
    .option("--include <glob>", "further files, such as '*.md'; may be repeated", commaList)
    .addHelpText(
      "after",
      `
The revision is pinned to its commit, every file is checked against the hub's digest, and pickles
are never fetched. HF_TOKEN opens gated and private models, HF_ENDPOINT names another hub,
HF_HUB_OFFLINE=1 forbids the network, HTTPS_PROXY is honoured.

Example: switchyard models pull hf:HuggingFaceTB/SmolLM2-135M-Instruct@main`,
    )
    .action((model: string, options: PullOptions) => pull(model, options, library, cli));

  models
    .command("inspect")
    .description("architecture, parameters, formats and sizes, tokenizer, licence")
    .argument("<model>", modelHelp)
    .action(async (model: string) => {
      const facts = await (await library()).inspect(model);
      cli.show(facts, (one) => factsText(one, cli.terminal.colours));
    });

  models
    .command("verify")
    .description(
      "read every byte again and compare digests; exits with 3 when there is nothing to compare",
    )
    .argument("[model]", `${modelHelp}; everything without it`)
    .action((model: string | undefined) => verify(model, library, cli));

  models
    .command("remove")
    .description("delete an import, or what was pulled together with its imports")
    .argument("<model>", modelHelp)
    .option("--yes", "do not ask")
    .action((model: string, options: { yes?: boolean }) => remove(model, options, library, cli));

  models
    .command("served")
    .description("what a request's model may say: bases, adapters and routes of the server")
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

type Library = () => Promise<LocalModels>;
type ImportOptions = { format: string; singleStream?: string; force?: boolean };
type PullOptions = { file?: string; include?: string[] };

async function runImport(
  source: string,
  { format, singleStream, force = false }: ImportOptions,
  library: Library,
  cli: Cli,
): Promise<void> {
  const local = await library();
  const progress = openProgress("importing", cli.terminal);
  try {
    const onProgress = (done: number) => progress.update(Math.round(done * 100), 100);
    const imported = await local.import({ source, format, singleStream, force, onProgress });
    progress.stop();
    cli.show(imported, (one) => importedText(one, cli.terminal.colours));
  } finally {
    progress.stop();
  }
}

async function pull(
  model: string,
  { file, include = [] }: PullOptions,
  library: Library,
  cli: Cli,
): Promise<void> {
  const local = await library();
  const { stderr, errorColours, colours } = cli.terminal;
  const tell = (text: string) => {
    if (!cli.json()) stderr.write(`${text}\n`);
  };
  const progress = openProgress("fetching", cli.terminal, { show: bytes });
  try {
    const pulled = await local.pull({
      model,
      file,
      include,
      onPlan: (plan) => tell(planText(plan, errorColours)),
      onProgress: progress.update,
      onRetry: (message) => tell(errorColours.dim(message)),
    });
    progress.stop();
    cli.show(pulled, (one) => pulledText(one, colours));
  } finally {
    progress.stop();
  }
}

async function verify(model: string | undefined, library: Library, cli: Cli): Promise<void> {
  const local = await library();
  const progress = openProgress("reading", cli.terminal, { show: bytes });
  try {
    const verdicts = await local.verify(model, progress.update);
    progress.stop();
    cli.exitCode = exitCodeOf(verdicts);
    cli.show(verdicts, (all) => verdictsText(all, cli.terminal.colours));
  } finally {
    progress.stop();
  }
}

function exitCodeOf(verdicts: readonly Verdict[]) {
  if (verdicts.some(({ result }) => result === "damaged")) return exitCodes.failed;
  return verdicts.some(({ result }) => result === "unknown")
    ? exitCodes.inconclusive
    : exitCodes.done;
}

async function remove(
  model: string,
  { yes = false }: { yes?: boolean },
  library: Library,
  cli: Cli,
): Promise<void> {
  const local = await library();
  const removal = await local.planRemoval(model);
  if (!yes && !(await isConfirmed(removal, cli))) {
    cli.exitCode = exitCodes.failed;
    cli.show({ removed: [] }, () => "Nothing was removed.");
    return;
  }
  await local.remove(removal);
  cli.show({ removed: removal }, ({ removed }) => `Removed:\n${removalText(removed)}`);
}

/** @throws UsageError where nobody could answer */
async function isConfirmed(removal: Removal, { terminal }: Cli): Promise<boolean> {
  const { stdin, stderr } = terminal;
  stderr.write(`${removalText(removal)}\n`);
  if (stdin.isTTY !== true) {
    throw new UsageError("Nobody is at the terminal to confirm this. Add --yes to remove it.");
  }
  const lines = createInterface({ input: stdin, output: stderr });
  try {
    return /^y(es)?$/i.test((await lines.question("Remove? [y/N] ")).trim());
  } finally {
    lines.close();
  }
}
