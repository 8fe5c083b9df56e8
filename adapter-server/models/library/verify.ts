/** Reads every byte of imports and sources again, and says what is no longer what it was. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { encoderProblems, type KeptEncoder, keptEncoders } from "../../encoder/encoder-library.ts";
import { openModelSource } from "../model-source.ts";
import { exists, type FileFacts, hashFile } from "./files.ts";
import { findEncoder, findModel } from "./find.ts";
import { originName } from "./inspect.ts";
import { type Import, importFiles, listImports } from "./manifest.ts";
import { listPulled, type PulledSource, pulledName } from "./pulled.ts";

export type Verdict = {
  what: string;
  type: "import" | "encoder" | "source";
  /** `unknown` when nothing was recorded that it could be compared with. */
  result: "ok" | "damaged" | "unknown";
  /** What is wrong or not known, one sentence each. */
  problems: string[];
};

/**
 * Verifies one model, or everything in the library.
 * @param onProgress bytes read and to be read
 */
export async function verifyModels(
  text: string | undefined,
  dataDir: string,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<Verdict[]> {
  const encoders = await selectEncoders(text, dataDir);
  const isEncoder = text !== undefined && encoders.length > 0;
  const { imports, sources } = isEncoder ? nothingElse : await select(text, dataDir);
  const all = [...imports, ...sources, ...encoders];
  const total = all.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  let done = 0;
  const onBytes = (count: number) => {
    done += count;
    onProgress(done, Math.max(done, total));
  };
  const verdicts: Verdict[] = [];
  for (const source of sources) verdicts.push(await verifySource(source, onBytes));
  for (const one of imports) verdicts.push(await verifyImport(one, onBytes));
  for (const one of encoders) {
    const problems = await encoderProblems(one);
    onBytes(one.sizeBytes);
    verdicts.push({
      ...{ what: `encoder ${one.digest.slice(0, 12)}`, type: "encoder", problems },
      result: problems.length === 0 ? "ok" : "damaged",
    });
  }
  return verdicts;
}

async function selectEncoders(text: string | undefined, dataDir: string): Promise<KeptEncoder[]> {
  if (text === undefined) return keptEncoders(dataDir);
  const encoder = await findEncoder(text, dataDir);
  return encoder ? [encoder] : [];
}

const nothingElse = { imports: [], sources: [] };

/** An import is verified with what it came from, and a source with what was made of it. */
async function select(
  text: string | undefined,
  dataDir: string,
): Promise<{ imports: Import[]; sources: PulledSource[] }> {
  const { complete } = await listPulled(dataDir);
  if (text === undefined) return { imports: await listImports(dataDir), sources: complete };
  const found = await findModel(text, dataDir);
  if (found.type === "pulled") return { imports: found.imports, sources: [found.source] };
  if (found.type === "path") return { imports: found.imports, sources: [] };
  const path = found.import.manifest?.origin.path;
  const sources = complete.filter(({ importPath }) => importPath === path);
  return { imports: [found.import], sources };
}

async function verifySource(
  source: PulledSource,
  onBytes: (count: number) => void,
): Promise<Verdict> {
  const problems = await compareFiles(source.folder, source.files, onBytes);
  return {
    what: pulledName(source),
    type: "source",
    result: problems.length === 0 ? "ok" : "damaged",
    problems,
  };
}

async function verifyImport(
  { digest, folder, manifest }: Import,
  onBytes: (count: number) => void,
): Promise<Verdict> {
  const named = { what: `import ${digest.slice(0, 12)}`, type: "import" as const };
  if (!manifest) {
    const problem =
      "It has no manifest, so there is nothing to compare it with. Import its source again.";
    return { ...named, result: "unknown", problems: [problem] };
  }
  const { files, origin, baseDigest } = manifest;
  const problems = await compareFiles(folder, files, onBytes);
  const known = new Set(files.map(({ name }) => name));
  for (const name of await importFiles(folder)) {
    if (!known.has(name)) problems.push(`${name} does not belong to it.`);
  }
  if (origin.type === "path") problems.push(...(await compareOrigin(origin.path, baseDigest)));
  else if (!(await exists(origin.path))) {
    problems.push(`Its source ${originName(origin)} is gone; a server reads the tokenizer there.`);
  }
  return { ...named, result: problems.length === 0 ? "ok" : "damaged", problems };
}

/** Whether a folder that is not ours still holds what the import was made of. */
async function compareOrigin(path: string, baseDigest: string): Promise<string[]> {
  if (!(await exists(path))) {
    return [`Its source ${path} is gone; a server reads the tokenizer there.`];
  }
  const digest = await openModelSource(path).then(
    (source) => source.digest,
    () => undefined,
  );
  if (digest === baseDigest) return [];
  return [`Its source ${path} has changed since; a server would import it anew.`];
}

async function compareFiles(
  folder: string,
  files: readonly FileFacts[],
  onBytes: (count: number) => void,
): Promise<string[]> {
  const problems: string[] = [];
  for (const { name, sizeBytes, sha256 } of files) {
    const path = join(folder, name);
    const size = await stat(path).then(
      (found) => found.size,
      () => undefined,
    );
    if (size === undefined) problems.push(`${name} is missing.`);
    else if (size !== sizeBytes)
      problems.push(`${name} has ${size} bytes instead of ${sizeBytes}.`);
    else if ((await hashFile(path, onBytes)).sha256 !== sha256) {
      problems.push(`${name} has other bytes than it had.`);
    }
  }
  return problems;
}
