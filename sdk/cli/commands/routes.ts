/** `switchyard routes`: policies that pick a model, and why one was picked. */
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { parse as parseYaml } from "yaml";
import { z } from "zod";
import type { RouteDecision } from "../../client/routes.ts";
import { declareRoute } from "../../protocol/admin.ts";
import type { Route } from "../../protocol/catalog.ts";
import { baseName } from "../../protocol/model-name.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import { intervalBar } from "../output/bars.ts";
import { money, percent } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

export function addRoutes(program: Command, cli: Cli): void {
  const routes = program.command("routes").description("policies that pick a model for a request");

  routes
    .command("list")
    .description("all routes")
    .action(async () => {
      cli.show(await cli.client().routes.list(), (list) =>
        formatTable(
          list,
          [
            { title: "ROUTE", cell: ({ name }) => name },
            { title: "PROJECT", cell: ({ projectId }) => projectId ?? "all" },
            { title: "DEFAULT", cell: ({ defaultModel }) => defaultModel },
            { title: "FALLBACKS", cell: ({ fallbacks }) => fallbacks.join(", ") || "-" },
            {
              title: "TASKS",
              cell: ({ tasks }) => tasks.map(({ task }) => task).join(", ") || "-",
            },
          ],
          cli.terminal.colours,
        ),
      );
    });

  routes
    .command("show")
    .description("one route with its tasks")
    .argument("<name>", 'such as "auto"')
    .action(async (name: string) => {
      cli.show(await cli.client().routes.get(name), (route) => routeText(route, cli));
    });

  routes
    .command("set")
    .description("declare a route from a file; the same file again changes nothing")
    .argument("<file>", "YAML or JSON: name, defaultModel, fallbacks, tasks")
    .action(async (file: string) => {
      const { name, ...body } = await readRoute(file);
      cli.show(await cli.client().routes.put(name, body), (route) => routeText(route, cli));
    });

  routes
    .command("explain")
    .description("which model a request would go to, and why; nothing is sent")
    .requiredOption("--message <text>", "the user's message")
    .option("--model <model>", "as the request would name it", "auto")
    .option("--system <text>", "a system message before it")
    .option("--task <task>", "instead of finding it out")
    .action(async (options: { message: string; model: string; system?: string; task?: string }) => {
      const { message, model, system, task } = options;
      const decision = await cli.client().routes.explain({
        model,
        messages: [
          ...(system === undefined ? [] : [{ role: "system" as const, content: system }]),
          { role: "user", content: message },
        ],
        ...(task === undefined ? {} : { task }),
      });
      cli.show(decision, (found) => decisionText(found, cli));
    });
}

async function readRoute(file: string): Promise<z.infer<typeof routeFile>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch {
    throw new UsageError(`${file} cannot be read.`);
  }
  let data: unknown;
  try {
    data = parseYaml(text);
  } catch (error) {
    throw new UsageError(`${file} is neither YAML nor JSON: ${(error as Error).message}`);
  }
  const parsed = routeFile.safeParse(data);
  if (parsed.success) return parsed.data;
  throw new UsageError(`${file} is no route:\n${z.prettifyError(parsed.error)}`);
}

function routeText(route: Route, { terminal }: Cli): string {
  const { bold, dim } = terminal.colours;
  const head = `${bold(route.name)}  default ${route.defaultModel}${route.fallbacks.length > 0 ? `, then ${route.fallbacks.join(", ")}` : ""}`;
  if (route.tasks.length === 0)
    return `${head}\n${dim("no tasks: everything goes to the default")}`;
  const table = formatTable(
    route.tasks,
    [
      { title: "TASK", cell: ({ task }) => task },
      { title: "FLOOR", cell: ({ qualityFloor }) => percent(qualityFloor), right: true },
      { title: "CANDIDATES", cell: ({ candidates }) => candidates.join(", ") },
      {
        title: "RULES",
        cell: ({ rules }) => rules.map((rule) => JSON.stringify(rule)).join(" or "),
      },
    ],
    terminal.colours,
  );
  return `${head}\n${table}`;
}

function decisionText(decision: RouteDecision, { terminal }: Cli): string {
  const { bold, dim, green, red } = terminal.colours;
  const facts = [
    decision.route && `route ${decision.route}`,
    decision.task &&
      `task ${decision.task}${decision.classifiedBy ? ` (by ${decision.classifiedBy})` : ""}`,
    decision.qualityFloor !== undefined && `floor ${percent(decision.qualityFloor)}`,
  ].filter(Boolean);
  const table = formatTable(
    decision.considered,
    [
      { title: "MODEL", cell: ({ model }) => model },
      { title: "AS", cell: ({ role }) => role },
      {
        title: "",
        cell: ({ verdict, reason }) =>
          verdict === "planned" ? green("planned") : red(reason ?? verdict),
      },
      {
        title: "EXPECTED COST",
        cell: ({ expectedCostUsd }) => (expectedCostUsd ? money(expectedCostUsd) : "-"),
        right: true,
      },
      {
        title: "MEASURED",
        cell: ({ evidence }) =>
          evidence ? `${intervalBar(evidence, 16)} ${percent(evidence.score)}` : "-",
      },
      { title: "WHY", cell: ({ explanation }) => explanation },
    ],
    terminal.colours,
  );
  return [
    `${decision.requested} -> ${bold(decision.attempts[0] ?? "nothing")}${decision.attempts.length > 1 ? dim(`, then ${decision.attempts.slice(1).join(", ")}`) : ""}`,
    ...(facts.length > 0 ? [facts.join(" · ")] : []),
    table,
  ].join("\n");
}

const routeFile = declareRoute.extend({
  name: baseName,
  fallbacks: declareRoute.shape.fallbacks.default([]),
  tasks: declareRoute.shape.tasks.default([]),
});
