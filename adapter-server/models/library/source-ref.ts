/** How a model on the Hugging Face hub is written: `hf:owner/name@revision`, or one GGUF file of it. */
import { LibraryError } from "./library-error.ts";

/** `file` is the path of a GGUF file in the repository, where one was named. */
export type HubRef = { repo: string; revision: string; file: string | undefined };

export function isHubRef(text: string): boolean {
  return text.startsWith("hf:");
}

/**
 * Reads `hf:owner/name`, `hf:owner/name@revision` and `hf:owner/name/file.gguf@revision`.
 * @throws LibraryError `invalid_reference`
 */
export function parseHubRef(text: string): HubRef {
  const [, path = "", revision = defaultRevision] = /^hf:([^@]+)(?:@(.+))?$/s.exec(text) ?? [];
  const [owner = "", name = "", ...rest] = path.split("/");
  const file = rest.length === 0 ? undefined : rest.join("/");
  if (!isRepoPart(owner) || !isRepoPart(name)) refuse(text, "the repository is owner/name");
  if (!isRevision(revision)) refuse(text, "the revision is a branch, a tag or a commit");
  if (file !== undefined) checkGgufName(file);
  return { repo: `${owner}/${name}`, revision, file };
}

/**
 * The same for one GGUF file of the repository.
 * @throws LibraryError `invalid_reference`
 */
export function withFile(ref: HubRef, file: string): HubRef {
  checkGgufName(file);
  return { ...ref, file };
}

export function formatHubRef({ repo, revision, file }: HubRef): string {
  return `hf:${repo}${file === undefined ? "" : `/${file}`}@${revision}`;
}

function checkGgufName(file: string): void {
  if (!isSafePath(file) || !file.endsWith(".gguf")) {
    throw new LibraryError("invalid_reference", `'${file}' is not the path of a GGUF file.`, {
      hint: "Name one file of the repository that ends with .gguf.",
    });
  }
  const [, stem, no, of] = partName.exec(file) ?? [];
  const isFirst = Number(no) === 1 && Number(of) >= 1;
  if (no === undefined || (isFirst && Number(of) <= partsMax)) return;
  throw new LibraryError("invalid_reference", `'${file}' is one part of ${Number(of)}.`, {
    hint:
      Number(of) > partsMax
        ? `A model has at most ${partsMax} parts.`
        : `Name the first, ${stem}-00001-of-${of}.gguf: it brings the others.`,
  });
}

/** All files of a GGUF model by its first: itself, and the others where llama.cpp has cut it into several. */
export function ggufParts(first: string): string[] {
  const [, stem, , of] = partName.exec(first) ?? [];
  if (of === undefined) return [first];
  return Array.from(
    { length: Number(of) },
    (_, index) => `${stem}-${String(index + 1).padStart(5, "0")}-of-${of}.gguf`,
  );
}

const partName = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/;
const partsMax = 999;

/** A path that stays below the folder it is put into, on every system, and looks like what it is. */
export function isSafePath(path: string): boolean {
  const parts = path.split("/");
  return (
    parts.length <= 4 && parts.every((part) => /^[A-Za-z0-9][A-Za-z0-9._+=-]{0,127}$/.test(part))
  );
}

export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

function isRepoPart(text: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$/.test(text) && !/--|\.\.|[.-]$/.test(text);
}

function isRevision(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$/.test(text) && !/\.\.|\/\/|\/$/.test(text);
}

function refuse(text: string, rule: string): never {
  throw new LibraryError("invalid_reference", `'${text.slice(0, 200)}' names no model: ${rule}.`, {
    hint: "Write it like hf:HuggingFaceTB/SmolLM2-135M-Instruct@main.",
  });
}

const defaultRevision = "main";
