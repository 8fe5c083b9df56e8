/** `switchyard report`: what was spent, to look at or as CSV. */
import type { Command } from "commander";
import type { CostFigures, CostReport, CostRow } from "../../client/reports.ts";
import { formatUsd, parseUsd } from "../../protocol/money.ts";
import { inputMeters, outputMeters } from "../../protocol/usage.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import { commaList } from "../options.ts";
import { shareBar } from "../output/bars.ts";
import { integer, moment, money } from "../output/format.ts";
import { type Column, formatTable } from "../output/table.ts";

type CostsOptions = { from?: string; to?: string; by: string[]; csv?: boolean };

export function addReport(program: Command, cli: Cli): void {
  const report = program
    .command("report")
    .description("what was spent, such as 'report --by model,project'");
  report
    .command("costs", { isDefault: true })
    .description(
      "costs of a period by model, adapter, project and more; 'report' alone does it too",
    )
    .option("--from <date>", "first day, or a timestamp (default: 30 days ago)")
    .option("--to <date>", "the day after the last, or a timestamp (default: now)")
    .option(
      "--by <groups>",
      "model, adapter, project, team, cost_centre, key, owner, task, end_user, route, day, tag:NAME",
      commaList,
    )
    .option("--csv", "as a CSV file with exact amounts")
    .action(async ({ from, to, by = ["model"], csv }: Partial<CostsOptions>) => {
      const query = { from, to, groupBy: by };
      const { reports } = cli.client();
      if (csv !== true)
        return cli.show(await reports.costs(query), (found) => costsText(found, cli));
      if (cli.json()) throw new UsageError("Choose one of --csv and --json.");
      cli.terminal.stdout.write(await reports.costsCsv(query));
    });
}

function costsText(report: CostReport, { terminal }: Cli): string {
  const { bold, dim } = terminal.colours;
  const { totals } = report;
  const total = parseUsd(totals.cost_usd);
  const groups = report.group_by.map((group) => ({
    title: group.toUpperCase(),
    cell: (row: CostRow) => groupText(row, group),
  }));
  const columns: Column<CostRow>[] = [
    ...groups,
    ...figureColumns,
    ...(totals.response_cache?.hits ? cacheColumns : []),
    { title: "SHARE", cell: ({ cost_usd }) => shareBar(shareOf(parseUsd(cost_usd), total)) },
  ];
  const unpriced =
    totals.unpriced_requests === 0
      ? []
      : [`${integer(totals.unpriced_requests)} requests have no price and are in no amount.`];
  return [
    dim(`${moment(report.from)} to ${moment(report.to)} UTC`),
    formatTable(report.data, columns, terminal.colours),
    `${bold(`$${formatUsd(total)}`)} for ${integer(totals.requests)} requests`,
    ...unpriced,
    ...savingText(totals),
    ...cacheText(totals),
  ].join("\n");
}

/** A project and a key come with the name they had. */
function groupText(row: CostRow, group: string): string {
  return String(row[`${group}_name`] ?? row[group] ?? "-");
}

function savingText({ saving }: CostFigures): string[] {
  if (saving === undefined || saving.requests === 0) return [];
  return [
    `The default models would have cost about ${money(saving.default_model_cost_usd)} for ${integer(saving.requests)} of them, instead of ${money(saving.cost_usd)}.`,
  ];
}

function cacheText({ response_cache: cache }: CostFigures): string[] {
  if (cache === undefined || cache.hits === 0) return [];
  const known =
    cache.priced_hits === cache.hits ? "" : ` (known of ${integer(cache.priced_hits)} of them)`;
  return [
    `The response cache answered ${integer(cache.hits)} of them for ${money(cache.cost_usd)}, which saved ${money(cache.saving_usd)}${known}.`,
  ];
}

function shareOf(part: bigint, total: bigint): number {
  return total === 0n ? 0 : Number((part * 10_000n) / total) / 10_000;
}

function inputTokens({ tokens }: CostRow): number | null {
  return sumOf(inputMeters.map((meter) => tokens[meter]));
}

function outputTokens({ tokens }: CostRow): number | null {
  return sumOf(outputMeters.map((meter) => tokens[meter]));
}

/** An older server does not tell of every meter. */
function sumOf(counts: readonly (number | null | undefined)[]): number | null {
  const known = counts.filter((count) => count != null);
  return known.length === 0 ? null : known.reduce((sum, count) => sum + count, 0);
}

const figureColumns: Column<CostRow>[] = [
  { title: "REQUESTS", cell: ({ requests }) => integer(requests), right: true },
  { title: "INPUT TOKENS", cell: (row) => integer(inputTokens(row)), right: true },
  { title: "OUTPUT TOKENS", cell: (row) => integer(outputTokens(row)), right: true },
  { title: "UNPRICED", cell: (row) => integer(row.unpriced_requests), right: true },
  { title: "COST", cell: ({ cost_usd }) => money(cost_usd), right: true },
];

const cacheColumns: Column<CostRow>[] = [
  { title: "FROM CACHE", cell: (row) => integer(row.response_cache?.hits ?? 0), right: true },
  { title: "SAVED", cell: (row) => money(row.response_cache?.saving_usd ?? "0"), right: true },
];
