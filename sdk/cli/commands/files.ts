/** `switchyard files`: what a project keeps at the server, such as the requests and answers of batches. */
import { pipeline } from "node:stream/promises";
import { type Command, Option } from "commander";
import type { StoredFile } from "../../client/files.ts";
import type { Cli } from "../cli.ts";
import { readDuration } from "../options.ts";
import { bytes, momentOf } from "../output/format.ts";
import { openProgress } from "../output/progress.ts";
import { formatTable } from "../output/table.ts";

type UploadOptions = { purpose: string; name?: string; expiresIn?: number };

export function addFiles(program: Command, cli: Cli): void {
  const files = program
    .command("files")
    .description("files of your project, as /v1/files has them");

  files
    .command("upload")
    .description("send a file")
    .argument("<file>", "where it is")
    .addOption(
      new Option("--purpose <purpose>", "what it is for; files of batches are .jsonl")
        .choices(["batch", "user_data", "vision", "assistants", "fine-tune", "evals"])
        .default("batch"),
    )
    .option("--name <name>", "instead of the file's own")
    .option("--expires-in <time>", "such as 12h or 7d: when it is deleted", readDuration)
    .action(async (file: string, options: UploadOptions) => {
      const uploaded = await uploadFile(file, options, cli);
      cli.show(uploaded, (one) => table([one], cli));
    });

  files
    .command("list")
    .description("files of your project, newest first")
    .option("--purpose <purpose>", "of this purpose alone")
    .action(async (filter: { purpose?: string }) => {
      cli.show(await cli.client().files.list(filter), (list) => table(list, cli));
    });

  files
    .command("show")
    .description("what is known of a file")
    .argument("<id>", "the file's id")
    .action(async (id: string) => {
      cli.show(await cli.client().files.get(id), (one) => table([one], cli));
    });

  files
    .command("download")
    .description("a file's bytes, to stdout or into a new file")
    .argument("<id>", "the file's id")
    .option("--out <file>", "where it is written; a file that is there already is left as it is")
    .action((id: string, { out }: { out?: string }) =>
      out === undefined ? print(id, cli) : download(id, out, cli),
    );

  files
    .command("delete")
    .description("delete files")
    .argument("<ids...>", "their ids")
    .action(async (ids: string[]) => {
      const { files } = cli.client();
      for (const id of ids) await files.delete(id);
      cli.show(
        ids.map((id) => ({ id, deleted: true })),
        () => ids.map((id) => `deleted ${id}`).join("\n"),
      );
    });
}

/** With a bar, where somebody is looking. */
export async function uploadFile(
  file: string,
  { purpose, name, expiresIn }: UploadOptions,
  cli: Cli,
): Promise<StoredFile> {
  const progress = openProgress("uploading", cli.terminal, { show: bytes });
  try {
    return await cli.client().files.upload(file, {
      purpose,
      name,
      expiresInSeconds: expiresIn,
      onProgress: ({ sentBytes, totalBytes }) => progress.update(sentBytes, totalBytes),
    });
  } finally {
    progress.stop();
  }
}

async function print(id: string, { client, terminal }: Cli): Promise<void> {
  const content = await client().files.content(id);
  await pipeline(content as never, terminal.stdout, { end: false });
}

async function download(id: string, out: string, cli: Cli): Promise<void> {
  const progress = openProgress("downloading", cli.terminal, { show: bytes });
  try {
    const file = await cli.client().files.download(id, out, {
      onProgress: ({ receivedBytes, totalBytes }) => progress.update(receivedBytes, totalBytes),
    });
    progress.stop();
    cli.show({ ...file, path: out }, () => `${out}  ${bytes(file.bytes)}`);
  } finally {
    progress.stop();
  }
}

function table(list: readonly StoredFile[], { terminal }: Cli): string {
  return formatTable(
    list,
    [
      { title: "ID", cell: ({ id }) => id },
      { title: "NAME", cell: ({ filename }) => filename },
      { title: "PURPOSE", cell: ({ purpose }) => purpose },
      { title: "SIZE", cell: (file) => bytes(file.bytes), right: true },
      { title: "SENT (UTC)", cell: ({ created_at }) => momentOf(created_at) },
      { title: "UNTIL (UTC)", cell: ({ expires_at }) => momentOf(expires_at) },
    ],
    terminal.colours,
  );
}
