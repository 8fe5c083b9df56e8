/** What the cells came to, as a table for people. */
import { cases } from "./cases.ts";
import type { Cell } from "./run.ts";

/** Rows are dialects, columns are upstreams: cells that passed, and of those that were refused by name. */
export function matrix(cells: readonly Cell[]): string {
  const upstreams = [...new Set(cells.map(({ upstream }) => upstream))];
  const rows = [...new Set(cells.map(({ dialect }) => dialect))].map((dialect) => {
    const counts = upstreams.map((upstream) =>
      count(cells.filter((cell) => cell.dialect === dialect && cell.upstream === upstream)),
    );
    return `| ${[dialect, ...counts].join(" | ")} |`;
  });
  return [
    `| client speaks | ${upstreams.join(" | ")} |`,
    `| --- |${" --- |".repeat(upstreams.length)}`,
    ...rows,
  ].join("\n");
}

/** By case, who refuses it. */
export function refusals(cells: readonly Cell[]): string {
  return cases
    .map(({ name }) => {
      const refused = cells.filter((cell) => cell.case === name && cell.outcome === "refused");
      return { name, upstreams: [...new Set(refused.map(({ upstream }) => upstream))] };
    })
    .filter(({ upstreams }) => upstreams.length > 0)
    .map(({ name, upstreams }) => `- ${name}: ${upstreams.join(", ")}`)
    .join("\n");
}

export function failures(cells: readonly Cell[]): string {
  return cells
    .filter(({ outcome }) => outcome === "failed")
    .map(({ case: name, dialect, upstream, stream, error }) => {
      return `${dialect} → ${upstream}, ${name}${stream ? ", streamed" : ""}: ${error}`;
    })
    .join("\n");
}

function count(cells: readonly Cell[]): string {
  const of = (outcome: Cell["outcome"]) => cells.filter((cell) => cell.outcome === outcome).length;
  const failed = of("failed");
  return [
    String(of("passed")),
    ...(of("refused") > 0 ? [`${of("refused")} refused`] : []),
    ...(failed > 0 ? [`**${failed} failed**`] : []),
  ].join(", ");
}
