/** `switchyard engine simulate`: the engine's scheduler under a load that is made up, in seconds and without a model. */
import { type Command, InvalidArgumentError, Option } from "commander";
import type { Cli } from "../cli.ts";
import type { Simulate, SimulationOptions, TokenCount } from "../engine-simulation.ts";
import { UsageError } from "../failure.ts";
import { wholeNumber } from "../options.ts";
import { openProgress } from "../output/progress.ts";
import { simulationText } from "./engine-text.ts";

type Options = {
  rate: number;
  clients: number;
  seconds: number;
  prompt: TokenCount;
  output: TokenCount;
  shared: number;
  n: number;
  adapters: number;
  zipf: number;
  tenants: number;
  flood: number;
  slots: number;
  sequences: number;
  stepTokens: number;
  chunk: number;
  promptMs: number;
  kvTokens: number;
  waiting: number;
  waitMs: number;
  slotWaitMs: number;
  priorityAgeMs: number;
  prefixCache: boolean;
  stepMs: number;
  rowMs: number;
  promptTokenMs: number;
  adapterMs: number;
  loadMs: number;
  seed: number;
};

export function addEngine(program: Command, cli: Cli, simulate: Simulate | undefined): void {
  const engine = program.command("engine").description("the embedded engine");
  const command = engine
    .command("simulate")
    .description(
      "what if: the engine's scheduler under a made-up load, on a clock of its own; needs no model and no server",
    )
    .helpOption("-h, --help", "every option with its default");

  command
    .optionsGroup("The load:")
    .option("--rate <n>", "requests a second, of all tenants together", positive, 4)
    .option("--clients <n>", "instead: clients that ask one after the other", natural, 0)
    .option("--seconds <n>", "how long they come", positive, 60)
    .addOption(lengthOption("--prompt <tokens>", "a prompt's own tokens", "50-400"))
    .addOption(lengthOption("--output <tokens>", "an answer's tokens", "20-200"))
    .option("--shared <n>", "tokens with which a tenant's prompts for an adapter begin", natural, 0)
    .option("--n <n>", "answers to each request, which share its prompt", wholeNumber, 1)
    .option("--adapters <n>", "adapters that are asked for; 0 for the base alone", natural, 0)
    .option("--zipf <s>", "the k-th adapter is asked for as often as 1/k^s", fraction, 1)
    .option("--tenants <n>", "who share the rate evenly", wholeNumber, 1)
    .option("--flood <n>", "requests a second of one tenant more", fraction, 0)
    .option("--seed <n>", "the same load for the same seed", natural, 1);

  command
    .optionsGroup("The engine, as its settings have it:")
    .option("--slots <n>", "adapterSlots", natural, 8)
    .option("--sequences <n>", "sequencesMax", wholeNumber, 32)
    .option("--step-tokens <n>", "stepTokensMax", wholeNumber, 512)
    .option("--chunk <n>", "prefillChunkMax", wholeNumber, 256)
    .option("--prompt-ms <n>", "promptMsMax", natural, 200)
    .option("--kv-tokens <n>", "kvCacheTokens", wholeNumber, 16_384)
    .option("--waiting <n>", "waitingMax", wholeNumber, 256)
    .option("--wait-ms <n>", "waitMsMax", wholeNumber, 60_000)
    .option("--slot-wait-ms <n>", "slotWaitMsMax", wholeNumber, 1000)
    .option("--priority-age-ms <n>", "priorityAgeMs", wholeNumber, 2000)
    .option("--no-prefix-cache", "compute every prompt whole");

  command
    .optionsGroup("What a step costs (SmolLM2-135M as int8 on two cores when not told):")
    .option("--step-ms <ms>", "each step", fraction, 7.8)
    .option("--row-ms <ms>", "and for each sequence that decodes", fraction, 1.2)
    .option("--prompt-token-ms <ms>", "and for each token of a prompt", fraction, 0.75)
    .option("--adapter-ms <ms>", "and for each adapter with rows in it", fraction, 1.3)
    .option("--load-ms <ms>", "and for each adapter copied into a slot", fraction, 5)
    .addHelpText(
      "after",
      `
Examples:
  switchyard engine simulate --rate 3 --adapters 64                # 64 adapters over 8 slots
  switchyard engine simulate --clients 16 --adapters 64            # the same, saturated
  switchyard engine simulate --tenants 2 --flood 40                # is the flood felt by the others?
  switchyard engine simulate --rate 8 --kv-tokens 4096 --json      # how often blocks run out

Times are simulated milliseconds. Nobody leaves early, and an answer has all of its tokens: guesses are not simulated.`,
    )
    .action((options: Options) => run(options, cli, simulate));
}

async function run(options: Options, cli: Cli, simulate: Simulate | undefined): Promise<void> {
  if (!simulate) throw new UsageError("The server is not installed here, only its client.");
  const progress = openProgress("simulating", cli.terminal);
  try {
    const report = await simulate(toSimulation(options), (done) =>
      progress.update(Math.round(done * 100), 100),
    );
    progress.stop();
    cli.show(report, (found) => simulationText(found, cli.terminal.colours));
  } finally {
    progress.stop();
  }
}

function toSimulation(options: Options): SimulationOptions {
  const { seed, seconds, rate, clients, prompt, output, adapters, zipf, tenants, prefixCache } =
    options;
  return {
    ...{ seed, seconds, clients, adapters, zipf, tenants },
    requestsPerSecond: rate,
    promptTokens: prompt,
    outputTokens: output,
    sharedTokens: options.shared,
    choices: options.n,
    floodPerSecond: options.flood,
    engine: {
      slots: options.slots,
      sequencesMax: options.sequences,
      stepTokensMax: options.stepTokens,
      prefillChunkMax: options.chunk,
      promptMsMax: options.promptMs,
      kvCacheTokens: options.kvTokens,
      waitingMax: options.waiting,
      waitMsMax: options.waitMs,
      slotWaitMsMax: options.slotWaitMs,
      priorityAgeMs: options.priorityAgeMs,
      prefixCache,
    },
    cost: {
      step: options.stepMs,
      row: options.rowMs,
      promptToken: options.promptTokenMs,
      adapter: options.adapterMs,
      load: options.loadMs,
    },
  };
}

function lengthOption(flags: string, what: string, byDefault: string): Option {
  return new Option(flags, `${what}: 200 always, 50-400 evenly, ~200 many short and few long`)
    .argParser(readLength)
    .default(readLength(byDefault), byDefault);
}

function readLength(text: string): TokenCount {
  const [, about, from, to] = /^(~)?([1-9]\d{0,5})(?:-([1-9]\d{0,5}))?$/.exec(text) ?? [];
  const isRange = to !== undefined;
  if (from === undefined || (about && isRange) || (isRange && Number(to) < Number(from))) {
    throw new InvalidArgumentError("Write tokens as 200, as 50-400 or as ~200.");
  }
  if (isRange) return { type: "uniform", from: Number(from), to: Number(to) };
  return about
    ? { type: "exponential", mean: Number(from) }
    : { type: "fixed", tokens: Number(from) };
}

function natural(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Write a whole number, 0 or more.");
}

function fraction(text: string): number {
  if (/^\d{1,9}(\.\d{1,9})?$/.test(text)) return Number(text);
  throw new InvalidArgumentError("Write a number, 0 or more.");
}

function positive(text: string): number {
  const value = fraction(text);
  if (value > 0) return value;
  throw new InvalidArgumentError("Write a number above 0.");
}
