/** `switchyard batches`: a file of requests, run by the server, and its answers. */
import { createReadStream, createWriteStream } from "node:fs";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import type { Command } from "commander";
import { type Batch, isOver } from "../../client/batches.ts";
import type { Cli } from "../cli.ts";
import { CommandError, type ExitCode, exitCodes, UsageError } from "../failure.ts";
import { keyValue } from "../options.ts";
import { integer, momentOf } from "../output/format.ts";
import { openProgress } from "../output/progress.ts";
import { formatTable } from "../output/table.ts";
import type { Colours } from "../output/terminal.ts";
import { uploadFile } from "./files.ts";

type CreateOptions = {
  endpoint?: string;
  window: string;
  metadata?: Record<string, string>;
  wait?: boolean;
};

export function addBatches(program: Command, cli: Cli): void {
  const batches = program
    .command("batches")
    .description("files of requests that the server runs, as /v1/batches has them");
  const codes =
    "\nExit codes of a batch that is over: 0 every request has an answer, 1 it ended otherwise, or some failed.";

  batches
    .command("create")
    .description("have the requests of a file run")
    .argument("<file>", "JSON lines of custom_id, method, url and body, or the id of such a file")
    .option("--endpoint <path>", "what they ask (default: the first line's url)")
    .option("--window <time>", "hours or days within which they run, such as 24h", "24h")
    .option("--metadata <key=value>", "kept with it; may be repeated", keyValue)
    .option("--wait", "stay until it is over")
    .addHelpText("after", codes)
    .action((file: string, options: CreateOptions) => create(file, options, cli));

  batches
    .command("list")
    .description("batches of your project, newest first")
    .action(async () => {
      cli.show(await cli.client().batches.list(), (list) => table(list, cli));
    });

  batches
    .command("show")
    .description("how far a batch is, and what was wrong with its file")
    .argument("<id>", "the batch's id")
    .option("--wait", "stay until it is over")
    .addHelpText("after", codes)
    .action(async (id: string, { wait }: { wait?: boolean }) => {
      if (wait) return follow(id, cli);
      show(await cli.client().batches.get(id), cli);
    });

  batches
    .command("cancel")
    .description("finish what is under way, and begin nothing more")
    .argument("<id>", "the batch's id")
    .action(async (id: string) => {
      cli.show(await cli.client().batches.cancel(id), (batch) => batchText(batch, cli));
    });

  batches
    .command("results")
    .description("the answers as JSON lines, then the failures, to stdout or into a new file")
    .argument("<id>", "the batch's id")
    .option("--succeeded", "the answers alone")
    .option("--failed", "the failures alone")
    .option("--out <file>", "where they are written; a file that is there already is left as it is")
    .action((id: string, options: ResultOptions) => results(id, options, cli));
}

async function create(file: string, options: CreateOptions, cli: Cli): Promise<void> {
  const isId = /^file-[\w-]+$/.test(file);
  const endpoint = options.endpoint ?? (isId ? undefined : await firstUrl(file));
  if (endpoint === undefined) {
    throw new UsageError("Say with --endpoint what the file's lines ask, such as /v1/embeddings.");
  }
  const { id } = isId ? { id: file } : await uploadFile(file, { purpose: "batch" }, cli);
  const batch = await cli.client().batches.create({
    inputFileId: id,
    endpoint,
    completionWindow: options.window,
    metadata: options.metadata,
  });
  if (options.wait) return follow(batch.id, cli);
  cli.show(batch, (one) => batchText(one, cli));
}

/** All lines ask the same, so the first tells. */
async function firstUrl(file: string): Promise<string | undefined> {
  const input = createReadStream(file);
  try {
    for await (const line of createInterface({ input })) {
      const { url } = JSON.parse(line) as { url?: unknown };
      return typeof url === "string" ? url : undefined;
    }
  } catch (cause) {
    const why = cause instanceof SyntaxError ? "is no file of JSON lines" : "cannot be read";
    throw new CommandError(`${file} ${why}.`, { code: "invalid_file", cause });
  } finally {
    input.destroy();
  }
  return undefined;
}

async function follow(id: string, cli: Cli): Promise<void> {
  const { stderr, errorColours } = cli.terminal;
  if (stderr.isTTY === true && !cli.json()) {
    const hint = `${id}: it goes on when you leave; see 'switchyard batches show ${id}'\n`;
    stderr.write(errorColours.dim(hint));
  }
  const progress = openProgress("answered", cli.terminal);
  try {
    const batch = await cli.client().batches.wait(id, {
      onProgress: ({ request_counts: counts }) => {
        if (counts && counts.total > 0) {
          progress.update(counts.completed + counts.failed, counts.total);
        }
      },
    });
    progress.stop();
    show(batch, cli);
  } finally {
    progress.stop();
  }
}

function show(batch: Batch, cli: Cli): void {
  cli.exitCode = exitCodeOf(batch);
  cli.show(batch, (one) => batchText(one, cli));
}

function exitCodeOf(batch: Batch): ExitCode {
  const isWell = batch.status === "completed" && batch.request_counts?.failed === 0;
  return isOver(batch) && !isWell ? exitCodes.failed : exitCodes.done;
}

type ResultOptions = { succeeded?: boolean; failed?: boolean; out?: string };

async function results(
  id: string,
  { succeeded, failed, out }: ResultOptions,
  { client, terminal }: Cli,
): Promise<void> {
  if (succeeded && failed) throw new UsageError("Name one of --succeeded and --failed, or none.");
  const { batches } = client();
  const batch = await batches.get(id);
  if (!isOver(batch)) {
    throw new CommandError(`The batch '${id}' is ${batch.status}; it has no results yet.`, {
      code: "invalid_state",
      hint: `Wait for it with 'switchyard batches show ${id} --wait'.`,
    });
  }
  const which = succeeded ? "succeeded" : failed ? "failed" : "all";
  const lines = batches.results(batch, { which });
  if (out === undefined) return pipeline(lines, terminal.stdout, { end: false });
  try {
    await pipeline(lines, createWriteStream(out, { flags: "wx" }));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
    throw new CommandError(`${out} is there already.`, { code: "invalid_file", cause });
  }
}

function batchText(batch: Batch, cli: Cli): string {
  const faults = batch.errors?.data ?? [];
  const lines = faults.map(({ line, code, message }) =>
    [line == null ? "" : `line ${line}`, code, message].filter((it) => it).join("  "),
  );
  return [table([batch], cli), ...(lines.length > 0 ? ["", ...lines] : [])].join("\n");
}

function table(list: readonly Batch[], { terminal }: Cli): string {
  return formatTable(
    list,
    [
      { title: "ID", cell: ({ id }) => id },
      { title: "STATUS", cell: (one) => statusText(one, terminal.colours) },
      { title: "ENDPOINT", cell: ({ endpoint }) => endpoint },
      { title: "MODEL", cell: (one) => one.model ?? "-" },
      { title: "REQUESTS", cell: (one) => integer(one.request_counts?.total), right: true },
      { title: "ANSWERED", cell: (one) => integer(one.request_counts?.completed), right: true },
      { title: "FAILED", cell: (one) => integer(one.request_counts?.failed), right: true },
      { title: "BEGUN (UTC)", cell: ({ created_at }) => momentOf(created_at) },
      { title: "UNTIL (UTC)", cell: ({ expires_at }) => momentOf(expires_at) },
    ],
    terminal.colours,
  );
}

function statusText({ status }: Batch, colours: Colours): string {
  if (status === "completed") return colours.green(status);
  return status === "failed" || status === "expired" ? colours.red(status) : status;
}
