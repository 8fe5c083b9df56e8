/** `switchyard report`: what was spent, to look at or as CSV. */
import type { Command } from "commander";
import type { CostFigures, CostReport, CostRow } from "../../client/reports.ts";
import { formatUsd, parseUsd } from "../../protocol/money.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import { commaList } from "../options.ts";
import { shareBar } from "../output/bars.ts";
import { integer, moment, money } from "../output/format.ts";
import { type Column, formatTable } from "../output/table.ts";

type CostsOptions = { from?: string; to?: string; by: string[]; csv?: boolean };

export function addReport(program: Command, cli: Cli): void {
  const report = program.command("report").description("what was spent");
  report
    .command("costs", { isDefault: true })
    .description("costs of a period by model, adapter, project and more")
    .option("--from <date>", "first day, or a timestamp (default: 30 days ago)")
    .option("--to <date>", "the day after the last, or a timestamp (default: now)")
    .option(
      "--by <groups>",
      "model, adapter, project, team, cost_centre, key, task, route, day, tag:NAME",
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
  const total = parseUsd(report.totals.cost_usd);
  const groups = report.group_by.map((group) => ({
    title: group.toUpperCase(),
    cell: (row: CostRow) => groupText(row, group),
  }));
  const columns: Column<CostRow>[] = [
    ...groups,
    ...figureColumns,
    { title: "SHARE", cell: ({ cost_usd }) => shareBar(shareOf(parseUsd(cost_usd), total)) },
  ];
  const { totals } = report;
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

function shareOf(part: bigint, total: bigint): number {
  return total === 0n ? 0 : Number((part * 10_000n) / total) / 10_000;
}

function inputTokens({ tokens }: CostRow): number | null {
  const counted = [tokens.input, tokens.cache_read, tokens.cache_write].filter((n) => n !== null);
  return counted.length === 0 ? null : counted.reduce((sum, n) => sum + n, 0);
}

function outputTokens({ tokens }: CostRow): number | null {
  const counted = [tokens.output, tokens.reasoning].filter((n) => n !== null);
  return counted.length === 0 ? null : counted.reduce((sum, n) => sum + n, 0);
}

const figureColumns: Column<CostRow>[] = [
  { title: "REQUESTS", cell: ({ requests }) => integer(requests), right: true },
  { title: "INPUT TOKENS", cell: (row) => integer(inputTokens(row)), right: true },
  { title: "OUTPUT TOKENS", cell: (row) => integer(outputTokens(row)), right: true },
  { title: "UNPRICED", cell: (row) => integer(row.unpriced_requests), right: true },
  { title: "COST", cell: ({ cost_usd }) => money(cost_usd), right: true },
];
