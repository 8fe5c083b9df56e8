/** The models of this machine for the command line: the adapter-server's library, its errors in the CLI's words. */
import { resolve } from "node:path";
import { importToLibrary, parseFormat } from "../../adapter-server/models/library/import.ts";
import { inspectModel } from "../../adapter-server/models/library/inspect.ts";
import { LibraryError } from "../../adapter-server/models/library/library-error.ts";
import { listModels } from "../../adapter-server/models/library/list.ts";
import { planRemoval, removeModels } from "../../adapter-server/models/library/remove.ts";
import { verifyModels } from "../../adapter-server/models/library/verify.ts";
import { CommandError, exitCodes } from "../../sdk/cli/failure.ts";
import type { LocalModels } from "../../sdk/cli/local-models.ts";
import { HubError } from "../../sdk/protocol/errors.ts";

export function openLocalModels(env: NodeJS.ProcessEnv): LocalModels {
  const dataDir = resolve(env.SWITCHYARD_DATA_DIR || ".switchyard");
  // As in the data folder that a server makes, nothing here is for other users to read.
  process.umask(0o077);
  return {
    list: () => told(listModels(dataDir)),
    inspect: (model) => told(inspectModel(model, dataDir)),
    import: (options) => told(importModel(options, dataDir)),
    verify: (model, onProgress) => told(verifyModels(model, dataDir, onProgress)),
    planRemoval: (model) => told(planRemoval(model, dataDir)),
    remove: (removal) => told(removeModels(removal)),
  };
}

const importModel = async (
  { source, format, force, onProgress }: Parameters<LocalModels["import"]>[0],
  dataDir: string,
) => {
  const imported = await importToLibrary({
    source,
    format: parseFormat(format),
    dataDir,
    force,
    onProgress,
  });
  const { imports } = await inspectModel(imported.digest, dataDir);
  const [facts] = imports;
  if (!facts) throw new Error(`the import ${imported.digest} is gone`);
  return { digest: imported.digest, format, sizeBytes: facts.sizeBytes, folder: facts.folder };
};

/** What the library refuses, as the command line tells it. */
async function told<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof LibraryError) {
      const { code, hint, message } = error;
      const exitCode = code === "invalid_reference" ? exitCodes.wrongUse : exitCodes.failed;
      throw new CommandError(message, { code, hint, exitCode, cause: error });
    }
    if (error instanceof HubError) {
      throw new CommandError(error.message, { code: error.code, cause: error });
    }
    throw error;
  }
}
