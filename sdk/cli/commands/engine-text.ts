/** A simulation's report for people: facts, a table of who waited how long, and how full it was over time. */
import type { Percentiles, SimulationReport } from "../engine-simulation.ts";
import { sparkline } from "../output/bars.ts";
import { integer, milliseconds, percent } from "../output/format.ts";
import { type Column, formatTable } from "../output/table.ts";
import type { Colours } from "../output/terminal.ts";

type Group = SimulationReport["groups"][number];

export function simulationText(report: SimulationReport, colours: Colours): string {
  const table = formatTable(report.groups, columns, colours);
  return [factsText(report, colours), table, timelineText(report, colours)].join("\n\n");
}

function factsText(report: SimulationReport, { bold, dim }: Colours): string {
  const refused = Object.entries(report.refused).map(
    ([code, count]) => `${integer(count)} ${code}`,
  );
  const facts: [string, string][] = [
    ["requests", [integer(report.requests), ...refused].join(" · ")],
    ["time", `${report.seconds.toFixed(1)} s, ${percent(report.busyShare)} of it in steps`],
    [
      "tokens/s",
      `${bold(rounded(report.outputTokensPerSecond))} of answers · ${rounded(report.promptTokensPerSecond)} of prompts · ${percent(report.prefixHitShare)} of these cached`,
    ],
    [
      "steps",
      `${integer(report.steps)} · ${report.rowsMean.toFixed(1)} sequences and ${report.tokensMean.toFixed(1)} tokens each`,
    ],
    [
      "KV cache",
      `${percent(report.cacheShareMean)} in use, ${percent(report.cacheShareMax)} at most · ${integer(report.preemptions)} preemptions`,
    ],
    ["adapters", `${integer(report.loads)} copied into slots`],
  ];
  return facts.map(([name, fact]) => `${dim(name.padEnd(9))} ${fact}`).join("\n");
}

const columns: Column<Group>[] = [
  { title: "WHO", cell: ({ name }) => name },
  { title: "REQUESTS", cell: ({ requests }) => integer(requests), right: true },
  { title: "REFUSED", cell: ({ refused }) => integer(refused), right: true },
  { title: "TOKENS/S", cell: (group) => rounded(group.outputTokensPerSecond), right: true },
  ...percentileColumns("WAIT", "waitMs", ["p50", "p95"]),
  ...percentileColumns("FIRST TOKEN", "firstTokenMs", ["p50", "p95", "p99"]),
  ...percentileColumns("NEXT TOKEN", "interTokenMs", ["p50", "p95", "p99"]),
];

/** The first column has the title of all. */
function percentileColumns(
  title: string,
  field: "waitMs" | "firstTokenMs" | "interTokenMs",
  parts: readonly (keyof Percentiles)[],
): Column<Group>[] {
  return parts.map((part, index) => ({
    title: index === 0 ? `${title} ${part}` : part,
    cell: (group) => milliseconds(group[field]?.[part]),
    right: true,
  }));
}

function timelineText({ timeline, seconds }: SimulationReport, { dim }: Colours): string {
  const line = (name: string, values: readonly number[]) => {
    const most = Math.max(...values);
    return `${dim(name.padEnd(9))} ${sparkline(values)} ${dim(`at most ${most.toFixed(1)}`)}`;
  };
  const width = timeline.running.length;
  const scale = `0 s${`${seconds.toFixed(0)} s`.padStart(width - 3)}`;
  return [
    line("running", timeline.running),
    line("waiting", timeline.waiting),
    dim(`${" ".repeat(9)} ${scale}`),
  ].join("\n");
}

function rounded(value: number): string {
  return integer(Math.round(value));
}
