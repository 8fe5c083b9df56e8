/** `switchyard logs`: the requests that were settled, a line each, and those to come with `-f`. */
import { type Command, Option } from "commander";
import type { RequestContent, RequestFilters, RequestRecord } from "../../client/requests.ts";
import { inputMeters, outputMeters } from "../../protocol/usage.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import { findProject, wholeNumber } from "../options.ts";
import { integer, milliseconds, money } from "../output/format.ts";
import type { Colours } from "../output/terminal.ts";

type LogsOptions = Omit<RequestFilters, "pricing"> & {
  follow?: boolean;
  limit: number;
  from?: string;
  to?: string;
};

export function addLogs(program: Command, cli: Cli): void {
  const logs = program
    .command("logs")
    .description("requests that were settled, one line each")
    .option("-f, --follow", "go on with those to come, until Ctrl-C")
    .option("-n, --limit <n>", "of those that were, the newest so many", wholeNumber, 20)
    .option("--from <date>", "not before this date or timestamp")
    .option("--to <date>", "before this date or timestamp")
    .option("--project <project>", "of one project, by id or name (admin)")
    .option("--key <id>", "made with one key")
    .option("--model <model>", "answered by one model")
    .option("--adapter <name>", "answered with one adapter")
    .option("--task <task>", "of one task")
    .option("--user <user>", "for one end user")
    .option("--route <route>", "sent by one route")
    .option("--upstream <name>", "answered by one upstream")
    .option("--status <status>", 'with an HTTP status such as "429", or "5xx"')
    .option("--error <code>", "with an error code such as upstream_timeout")
    .addOption(
      new Option("--outcome <outcome>", "that ended so").choices([
        "ok",
        "client_gone",
        "upstream_failed",
        "refused",
      ]),
    )
    .action((options: LogsOptions) => showLogs(options, cli));

  logs
    .command("show")
    .description("one request: where its time went, which calls were made, what was said")
    .argument("<id>", "such as req_…")
    .option(
      "--content",
      "with its prompt and its answer, where they are kept; the audit log tells it (admin)",
    )
    .action((id: string, options: { content?: boolean }, command: Command) => {
      refuseSearch(command, []);
      return showRequest(id, options, cli);
    });

  logs
    .command("forget")
    .description("delete what is kept of prompts and answers (admin)")
    .argument("[id]", "of one request")
    .option("--project <project>", "of all of a project, by id or name")
    .option("--user <user>", "of one end user of that project")
    // `logs` has options of these names too, and is given them first.
    .action((id: string | undefined, _options: ForgetOptions, command: Command) => {
      refuseSearch(command, ["project", "user"]);
      return forget(id, command.optsWithGlobals<ForgetOptions>(), cli);
    });
}

/** Who writes `logs forget --project p --to 2026-01-01` does not mean all of the project. */
function refuseSearch(command: Command, taken: readonly string[]): void {
  const search = command.parent;
  const other = search?.options.find(
    (option) =>
      search.getOptionValueSource(option.attributeName()) === "cli" &&
      !taken.includes(option.attributeName()),
  );
  if (other) {
    throw new UsageError(`'logs ${command.name()}' has no ${other.long}: it would not be heeded.`);
  }
}

type ForgetOptions = { project?: string; user?: string };

async function showRequest(id: string, { content }: { content?: boolean }, cli: Cli) {
  const { requests } = cli.client();
  const request = await requests.get(id);
  const said = content ? await requests.content(id) : undefined;
  cli.show(said ? { ...request, said } : request, () =>
    [
      requestLine(request, cli.terminal.colours),
      ...timingLines(request),
      ...attemptLines(request),
      ...(said ? contentLines(said, cli.terminal.colours) : []),
    ].join("\n"),
  );
}

async function forget(id: string | undefined, { project, user }: ForgetOptions, cli: Cli) {
  const client = cli.client();
  if ((id === undefined) === (project === undefined)) {
    throw new UsageError("Name a request, or a project with --project.");
  }
  if (id !== undefined) {
    if (user !== undefined) throw new UsageError("--user belongs to --project.");
    await client.requests.forgetContent(id);
    cli.show({ deleted: 1 }, () => "Forgotten.");
    return;
  }
  const { id: projectId } = await findProject(client, project ?? "");
  const deleted = await client.requests.forgetContents({ project: projectId, user });
  cli.show({ deleted }, () => `Forgotten of ${integer(deleted)} requests.`);
}

function timingLines({ timings }: RequestRecord): string[] {
  const parts = Object.entries((timings ?? {}) as Record<string, number>);
  if (parts.length === 0) return [];
  return [`time       ${parts.map(([part, ms]) => `${part} ${ms.toFixed(2)} ms`).join("  ")}`];
}

function attemptLines({ decision }: RequestRecord): string[] {
  const { tried = [] } = (decision ?? {}) as { tried?: Attempt[] };
  return tried.map(({ model, upstream, ms, headMs, error }) =>
    [
      `call       ${model} at ${upstream}`,
      milliseconds(ms),
      ...(headMs === undefined ? [] : [`head after ${milliseconds(headMs)}`]),
      error ?? "ok",
    ].join("  "),
  );
}

type Attempt = { model: string; upstream: string; ms: number; headMs?: number; error?: string };

function contentLines(content: RequestContent, colours: Colours): string[] {
  const { expires_at, truncated, complete, redacted, prompt, answer } = content;
  const out = Object.entries(redacted).map(([kind, count]) => `${kind}×${count}`);
  const facts = [
    `kept until ${expires_at.slice(0, 16).replace("T", " ")}`,
    ...(truncated ? ["cut, because it was long"] : []),
    ...(complete ? [] : ["the answer did not come to its end"]),
    ...(out.length > 0 ? [`taken out: ${out.join(" ")}`] : []),
  ];
  return [
    colours.dim(facts.join("; ")),
    ...(prompt === null ? [] : [colours.bold("prompt"), JSON.stringify(prompt, null, 2)]),
    ...(answer === null ? [] : [colours.bold("answer"), JSON.stringify(answer, null, 2)]),
  ];
}

async function showLogs(options: LogsOptions, cli: Cli): Promise<void> {
  const { follow, limit, from, to, project, ...others } = options;
  const client = cli.client();
  const { stdout, stderr, colours } = cli.terminal;
  const filters: RequestFilters = {
    ...others,
    ...(project !== undefined && { project: (await findProject(client, project)).id }),
  };
  const write = (request: RequestRecord) =>
    stdout.write(`${cli.json() ? JSON.stringify(request) : requestLine(request, colours)}\n`);
  // What is asked for first is in the list when something comes between the two.
  const coming = follow ? client.requests.follow(filters) : undefined;
  const first = coming?.next();
  first?.catch(() => {});
  const page = { ...filters, from, to, limit: Math.min(limit, 100) };
  const written = new Set<string>();
  for (const request of (await client.requests.list(page)).reverse()) {
    written.add(request.id);
    write(request);
  }
  for (let next = await first; next && !next.done; next = await coming?.next()) {
    const { value } = next;
    if (value.type === "lost") {
      stderr.write(`${integer(value.count)} requests were too many at once and are left out.\n`);
    } else if (!written.delete(value.request.id)) write(value.request);
  }
}

/** `2026-11-22 09:30:12 200 ok checkout/ci tiny:sorter@3 812→64 $0.0001 312 ms +1.2 ms req_…` */
function requestLine(request: RequestRecord, colours: Colours): string {
  const text = (name: string) => (request[name] == null ? undefined : String(request[name]));
  const status = Number(request.http_status);
  const paint = status >= 500 ? colours.red : status >= 400 ? colours.yellow : colours.green;
  const adapter = request.adapter == null ? "" : `:${request.adapter}@${request.adapter_version}`;
  const asked = text("requested_model") ?? "-";
  const timings = request.timings as { overhead?: number } | null | undefined;
  const facts = [
    request.task != null && `task=${request.task}`,
    request.end_user != null && `user=${request.end_user}`,
    request.error_code != null && `error=${request.error_code}`,
  ].filter(Boolean);
  const at = String(request.at);
  return [
    colours.dim(`${at.slice(0, 10)} ${at.slice(11, 19)}`),
    paint(`${status} ${text("outcome") ?? ""}`),
    `${text("project_name") ?? "-"}/${text("key_name") ?? "-"}`,
    request.model == null ? asked : `${request.model}${adapter}`,
    `${tokensOf(request, inputMeters)}→${tokensOf(request, outputMeters)}`,
    money(text("cost_usd")),
    milliseconds(Number(request.duration_ms)),
    ...(timings?.overhead === undefined ? [] : [`+${timings.overhead.toFixed(1)} ms`]),
    ...facts,
    colours.dim(request.id),
  ].join("  ");
}

function tokensOf({ tokens }: RequestRecord, meters: readonly string[]): string {
  const counts = meters.map((meter) => (tokens as Record<string, number | null>)?.[meter]);
  const known = counts.filter((count) => count != null);
  return known.length === 0 ? "-" : integer(known.reduce((sum, count) => sum + count, 0));
}
