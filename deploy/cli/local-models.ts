/** The models of this machine for the command line: the adapter-server's library, its errors in the CLI's words. */
import { resolve } from "node:path";
import { importEncoder, isEncoderFolder } from "../../adapter-server/encoder/import-encoder.ts";
import { readHubAccess } from "../../adapter-server/models/hub/hub-access.ts";
import { pullModel } from "../../adapter-server/models/hub/pull.ts";
import { realWaiting } from "../../adapter-server/models/hub/retries.ts";
import {
  importToLibrary,
  parseFormat,
  parseSingleStream,
} from "../../adapter-server/models/library/import.ts";
import { inspectModel } from "../../adapter-server/models/library/inspect.ts";
import { LibraryError } from "../../adapter-server/models/library/library-error.ts";
import { listModels } from "../../adapter-server/models/library/list.ts";
import { pulledName } from "../../adapter-server/models/library/pulled.ts";
import { planRemoval, removeModels } from "../../adapter-server/models/library/remove.ts";
import { isHubRef, parseHubRef, withFile } from "../../adapter-server/models/library/source-ref.ts";
import { verifyModels } from "../../adapter-server/models/library/verify.ts";
import { CommandError, exitCodes } from "../../sdk/cli/failure.ts";
import type { LocalModels, Pulled } from "../../sdk/cli/local-models.ts";
import { HubError } from "../../sdk/protocol/errors.ts";

export function openLocalModels(env: NodeJS.ProcessEnv): LocalModels {
  const dataDir = resolve(env.SWITCHYARD_DATA_DIR || ".switchyard");
  // As in the data folder that a server makes, nothing here is for other users to read.
  process.umask(0o077);
  return {
    list: () => told(listModels(dataDir)),
    inspect: (model) => told(inspectModel(model, dataDir)),
    import: (options) => told(importModel(options, dataDir)),
    pull: (options) => told(pull(options, dataDir, env)),
    verify: (model, onProgress) => told(verifyModels(model, dataDir, onProgress)),
    planRemoval: (model) => told(planRemoval(model, dataDir)),
    remove: (removal) => told(removeModels(removal)),
  };
}

const importModel = async (
  { source, format, singleStream, force, onProgress }: Parameters<LocalModels["import"]>[0],
  dataDir: string,
) => {
  if (!isHubRef(source) && (await isEncoderFolder(source))) {
    const { digest, folder, sizeBytes } = await importEncoder(source, { dataDir });
    return { digest, format: "onnx", sizeBytes, folder };
  }
  const imported = await importToLibrary({
    source,
    format: parseFormat(format),
    singleStream: singleStream === undefined ? undefined : parseSingleStream(singleStream),
    dataDir,
    force,
    onProgress,
  });
  const { imports } = await inspectModel(imported.digest, dataDir);
  const [facts] = imports;
  if (!facts) throw new Error(`the import ${imported.digest} is gone`);
  const { sizeBytes, folder, quantization } = facts;
  const told = quantization?.singleStream;
  return {
    digest: imported.digest,
    format,
    sizeBytes,
    folder,
    ...(told && { singleStream: told }),
  };
};

const pull = async (
  { model, file, include, onPlan, onProgress, onRetry }: Parameters<LocalModels["pull"]>[0],
  dataDir: string,
  env: NodeJS.ProcessEnv,
): Promise<Pulled> => {
  const ref = parseHubRef(model);
  const { source, wasHere } = await pullModel({
    ref: file === undefined ? ref : withFile(ref, file),
    include,
    dataDir,
    access: readHubAccess(env),
    onPlan,
    onProgress,
    waiting: { ...realWaiting, onRetry },
  });
  const { commit, folder, files, sizeBytes } = source;
  return { name: pulledName(source), commit, folder, files, sizeBytes, wasHere };
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
