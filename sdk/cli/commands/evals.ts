/** `switchyard evals`: measure candidates on a dataset and look at how sure the scores are. */
import { type Command, InvalidArgumentError } from "commander";
import type { CandidateResult, EvalRun, Scorer } from "../../protocol/admin.ts";
import type { EvalAnswer } from "../../protocol/evals.ts";
import { formatUsd, parseUsd } from "../../protocol/money.ts";
import type { Cli } from "../cli.ts";
import { type ExitCode, exitCodes } from "../failure.ts";
import { commaList, wholeNumber } from "../options.ts";
import { intervalBar } from "../output/bars.ts";
import { integer, milliseconds, moment, money, percent } from "../output/format.ts";
import { openProgress } from "../output/progress.ts";
import { formatTable } from "../output/table.ts";
import type { Colours } from "../output/terminal.ts";

type RunOptions = {
  task: string;
  dataset: string;
  candidates: string[];
  scorer: Scorer;
  limit?: number;
  concurrency?: number;
  maxTokens?: number;
  floor?: number;
  wait: boolean;
};

export function addEvals(program: Command, cli: Cli): void {
  const evals = program.command("evals").description("measured quality of models at a task");

  evals
    .command("run")
    .description("let every candidate answer every row, and measure them")
    .requiredOption("--task <task>", "the task that routes know it by")
    .requiredOption("--dataset <file-or-sha256>", "a file of JSON lines, or a pushed dataset")
    .requiredOption("--candidates <models>", "models, separated by commas", commaList)
    .requiredOption("--scorer <scorer>", "exact, json, contains or regex:PATTERN", readScorer)
    .option("--limit <n>", "the first rows only", wholeNumber)
    .option("--concurrency <n>", "requests at one time", wholeNumber)
    .option("--max-tokens <n>", "longest answer", wholeNumber)
    .option("--floor <share>", "the share of right answers that is wanted, such as 0.8", readShare)
    .option("--no-wait", "leave it running and answer at once")
    .addHelpText(
      "after",
      "\nWith --floor a candidate passes when its whole 95 % interval lies above, and fails when it lies below.\nExit codes then: 0 one passes, 1 all fail, 3 none passes and for some more rows are needed.",
    )
    .action((options: RunOptions) => run(options, cli));

  evals
    .command("show")
    .description("one run's candidates with their intervals")
    .argument("<run>", "the run's id")
    .option("--failed", "also list the answers that were wrong or errored")
    .option("--floor <share>", "the share of right answers that is wanted", readShare)
    .action(async (id: string, options: { failed?: boolean; floor?: number }) => {
      const client = cli.client();
      const found = await client.evals.get(id);
      cli.exitCode = exitCodeOf(found, options.floor);
      if (options.failed !== true) return cli.show(found, (one) => runText(one, options, cli));
      const failed: EvalAnswer[] = [];
      for await (const answer of client.evals.results(id, { failed: true })) failed.push(answer);
      cli.show(
        { ...found, failed },
        (one) => `${runText(one, options, cli)}\n\n${answersText(failed, cli)}`,
      );
    });

  evals
    .command("list")
    .description("runs of your project, newest first")
    .action(async () => {
      cli.show(await cli.client().evals.list(), (list) =>
        formatTable(
          list,
          [
            { title: "RUN", cell: ({ id }) => id },
            { title: "TASK", cell: ({ task }) => task },
            { title: "STATUS", cell: (one) => statusText(one, cli.terminal.colours) },
            { title: "ROWS", cell: ({ rows }) => integer(rows), right: true },
            { title: "BEST", cell: bestText },
            { title: "BEGUN (UTC)", cell: ({ createdAt }) => moment(createdAt) },
          ],
          cli.terminal.colours,
        ),
      );
    });

  evals
    .command("cancel")
    .description("stop a run; its answers are kept")
    .argument("<run>", "the run's id")
    .action(async (id: string) => {
      cli.show(await cli.client().evals.cancel(id), (one) => runText(one, {}, cli));
    });

  evals
    .command("resume")
    .description("ask what is missing in a run that ended early")
    .argument("<run>", "the run's id")
    .action(async (id: string) => {
      const client = cli.client();
      await client.evals.resume(id);
      await follow(id, {}, cli);
    });
}

async function run(options: RunOptions, cli: Cli): Promise<void> {
  const client = cli.client();
  const { limit, concurrency, maxTokens } = options;
  const isDigest = /^[0-9a-f]{64}$/.test(options.dataset);
  const dataset = isDigest ? options.dataset : (await client.datasets.push(options.dataset)).sha256;
  const begun = await client.evals.create({
    task: options.task,
    dataset,
    candidates: options.candidates,
    scorer: options.scorer,
    ...(limit === undefined ? {} : { limit }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(maxTokens === undefined ? {} : { maxTokens }),
  });
  if (!options.wait) return cli.show(begun, ({ id }) => id);
  await follow(begun.id, options, cli);
}

/** Shows how far a run is until it ends, then what it found. */
async function follow(id: string, options: { floor?: number }, cli: Cli): Promise<void> {
  const { stderr, errorColours } = cli.terminal;
  if (stderr.isTTY === true && !cli.json()) {
    stderr.write(
      errorColours.dim(`${id}: it goes on when you leave; see 'switchyard evals show ${id}'\n`),
    );
  }
  const progress = openProgress("answered", cli.terminal);
  try {
    const ended = await cli.client().evals.wait(id, {
      onProgress: ({ answered, rows, candidates }) =>
        progress.update(answered, rows * candidates.length),
    });
    progress.stop();
    cli.exitCode = exitCodeOf(ended, options.floor);
    cli.show(ended, (one) => runText(one, options, cli));
  } finally {
    progress.stop();
  }
}

type Verdict = "pass" | "fail" | "undecided";

/** A candidate without a score has failed; one whose interval holds the floor needs more rows. */
function verdictOf(candidate: CandidateResult, floor: number): Verdict {
  const { lower, upper, error } = candidate;
  if (error !== undefined || lower === undefined || upper === undefined) return "fail";
  if (lower >= floor) return "pass";
  return upper < floor ? "fail" : "undecided";
}

/** Without a floor there is nothing to decide, and a run that is done is done. */
function exitCodeOf(run: EvalRun, floor: number | undefined): ExitCode {
  if (run.status === "running") return exitCodes.done;
  if (run.status === "failed") return exitCodes.failed;
  if (floor === undefined) return exitCodes.done;
  const verdicts = run.candidates.map((candidate) => verdictOf(candidate, floor));
  if (verdicts.includes("pass")) return exitCodes.done;
  return verdicts.includes("undecided") ? exitCodes.inconclusive : exitCodes.failed;
}

function runText(run: EvalRun, { floor }: { floor?: number }, { terminal }: Cli): string {
  const { colours } = terminal;
  const head = `${colours.bold(run.task)}  ${run.scorer.type}, ${integer(run.rows)} rows  ${statusText(run, colours)}  ${colours.dim(run.id)}`;
  const verdict =
    floor === undefined
      ? []
      : [
          {
            title: `FLOOR ${percent(floor)}`,
            cell: (one: CandidateResult) => verdictText(verdictOf(one, floor), colours),
          },
        ];
  const table = formatTable(
    run.candidates,
    [
      { title: "CANDIDATE", cell: ({ candidate, model }) => model ?? candidate },
      { title: "SCORE", cell: ({ score }) => percent(score), right: true },
      { title: "0 %     95 % interval      100 %", cell: barText },
      { title: "", cell: intervalText },
      ...verdict,
      ...(run.candidates.some(({ versusFirst }) => versusFirst)
        ? [{ title: "VS FIRST, ROW BY ROW", cell: versusText }]
        : []),
      { title: "N", cell: ({ n }) => integer(n), right: true },
      { title: "ERRORED", cell: ({ errored }) => integer(errored), right: true },
      { title: "COST/REQUEST", cell: ({ meanCostUsd }) => money(meanCostUsd), right: true },
      { title: "P50", cell: ({ latencyP50Ms }) => milliseconds(latencyP50Ms), right: true },
      { title: "P95", cell: ({ latencyP95Ms }) => milliseconds(latencyP95Ms), right: true },
    ],
    colours,
  );
  const errors = run.candidates.flatMap(({ candidate, error }) =>
    error === undefined ? [] : [`${colours.red(candidate)}: ${error}`],
  );
  return [head, table, ...costText(run), ...errors].join("\n");
}

/** What all requests of the run cost, and whether that is all of it. */
function costText({ candidates }: EvalRun): string[] {
  const known = candidates.flatMap(({ totalCostUsd }) => totalCostUsd ?? []);
  const unpriced = candidates.reduce((sum, candidate) => sum + candidate.unpriced, 0);
  const missing = unpriced === 0 ? "" : `${integer(unpriced)} answers have no price`;
  if (known.length === 0) return missing === "" ? [] : [`Cost unknown: ${missing}.`];
  const total = formatUsd(known.reduce((sum, usd) => sum + parseUsd(usd), 0n));
  return [`The run cost ${money(total)}${missing === "" ? "" : `, and more: ${missing}`}.`];
}

function barText({ score, lower, upper }: CandidateResult): string {
  if (score === undefined || lower === undefined || upper === undefined) return "";
  return intervalBar({ score, lower, upper });
}

/** In points of a hundred; an interval that holds 0 tells no difference. */
function versusText({ versusFirst }: CandidateResult): string {
  if (!versusFirst) return "";
  const points = (share: number) => `${share > 0 ? "+" : ""}${(share * 100).toFixed(1)}`;
  const { difference, lower, upper } = versusFirst;
  return `${points(difference)} (${points(lower)} to ${points(upper)})`;
}

function intervalText({ lower, upper }: CandidateResult): string {
  return lower === undefined || upper === undefined ? "" : `${percent(lower)} to ${percent(upper)}`;
}

function verdictText(verdict: Verdict, colours: Colours): string {
  return { pass: colours.green, fail: colours.red, undecided: colours.yellow }[verdict](verdict);
}

function statusText({ status, error, answered, rows, candidates }: EvalRun, colours: Colours) {
  switch (status) {
    case "done":
      return colours.green("done");
    case "failed":
      return colours.red(`failed: ${error ?? "unknown"}`);
    case "running":
      return colours.yellow(`running, ${answered} of ${rows * candidates.length} answered`);
    default:
      return status satisfies never;
  }
}

function bestText({ candidates }: EvalRun): string {
  const scored = candidates.filter(({ score, error }) => score !== undefined && !error);
  const best = scored.sort((a, b) => (b.score ?? 0) - (a.score ?? 0))[0];
  return best === undefined ? "-" : `${best.candidate} ${percent(best.score)}`;
}

function answersText(answers: readonly EvalAnswer[], { terminal }: Cli): string {
  return formatTable(
    answers,
    [
      { title: "ROW", cell: ({ row }) => String(row), right: true },
      { title: "CANDIDATE", cell: ({ candidate }) => candidate },
      { title: "REFERENCE", cell: (one) => aroundDifference(one).reference },
      { title: "ANSWER", cell: (one) => aroundDifference(one).answer },
      { title: "ERROR", cell: ({ error }) => terminal.colours.red(error ?? "") },
    ],
    terminal.colours,
  );
}

/** The part of long texts in which they begin to differ. */
function aroundDifference({ reference, answer }: EvalAnswer): {
  reference: string;
  answer: string;
} {
  const [wanted, got] = [oneLine(reference), answer === undefined ? "-" : oneLine(answer)];
  let same = 0;
  while (same < wanted.length && wanted[same] === got[same]) same++;
  const from = Math.max(wanted.length, got.length) <= cellWidth ? 0 : Math.max(0, same - 20);
  return { reference: cut(wanted, from), answer: cut(got, from) };
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

function cut(text: string, from: number): string {
  const to = from + cellWidth;
  return `${from > 0 ? "…" : ""}${text.slice(from, to)}${text.length > to ? "…" : ""}`;
}

const cellWidth = 60;

function readScorer(text: string): Scorer {
  if (text === "exact" || text === "json" || text === "contains") return { type: text };
  if (text.startsWith("regex:") && text.length > 6) {
    return { type: "regex", pattern: text.slice(6) };
  }
  throw new InvalidArgumentError("Write exact, json, contains or regex:PATTERN.");
}

function readShare(text: string): number {
  const share = Number(text);
  if (text.trim() !== "" && share >= 0 && share <= 1) return share;
  throw new InvalidArgumentError("Write a share between 0 and 1, such as 0.8.");
}
