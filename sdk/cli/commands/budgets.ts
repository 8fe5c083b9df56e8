/** `switchyard budgets`: what is spent and held of each, and which shares were told. */
import type { Command } from "commander";
import type { BudgetAlert, BudgetStanding } from "../../client/budgets.ts";
import type { Cli } from "../cli.ts";
import { budgetText } from "../options.ts";
import { moment } from "../output/format.ts";
import { type Column, formatTable } from "../output/table.ts";

export function addBudgets(program: Command, cli: Cli): void {
  const { colours } = cli.terminal;
  const budgets = program.command("budgets").description("what is spent and held of budgets");
  budgets
    .command("list", { isDefault: true })
    .description(
      "every budget; where each user or model has its own, whoever spent most; 'budgets' alone does it too",
    )
    .action(async () => {
      cli.show(await cli.client().budgets.list(), (list) => formatTable(list, standings, colours));
    });
  budgets
    .command("alerts")
    .description("shares of budgets that were spent, the newest first")
    .action(async () => {
      cli.show(await cli.client().budgets.alerts(), (list) => formatTable(list, alerts, colours));
    });
}

const owner: Column<BudgetStanding | BudgetAlert>[] = [
  { title: "SCOPE", cell: ({ scope, scope_id }) => (scope === scope_id ? scope : scope_id) },
  { title: "USER", cell: ({ end_user }) => end_user ?? "-" },
  { title: "MODEL", cell: ({ model }) => model ?? "-" },
  { title: "BUDGET", cell: ({ budget }) => budgetText(budget), right: true },
  { title: "SPENT", cell: ({ spent_usd }) => `$${spent_usd}`, right: true },
];
const standings: Column<BudgetStanding>[] = [
  ...owner,
  { title: "HELD", cell: ({ held_usd }) => `$${held_usd}`, right: true },
  { title: "RESETS", cell: ({ reset_at }) => moment(reset_at ?? undefined) },
];
const alerts: Column<BudgetAlert>[] = [
  { title: "TOLD", cell: ({ at }) => moment(at) },
  { title: "SHARE", cell: ({ share }) => `${Math.round(share * 1000) / 10} %`, right: true },
  ...owner,
];
