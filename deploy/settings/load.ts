/** Reads `switchyard.yaml`; every mistake is told with its line and field, and nothing starts on a wrong file. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { LineCounter, parseDocument } from "yaml";
import type { z } from "zod";
import { type Settings, settings as settingsSchema } from "./schema.ts";

/** What stops a start: one line for the terminal, what to change included. */
export class StartError extends Error {
  override readonly name = "StartError";
}

export type LoadedSettings = {
  settings: Settings;
  /** Where the settings came from, and what relative paths in them start from. */
  path: string;
  folder: string;
};

/**
 * Finds and checks the settings: `SWITCHYARD_CONFIG`, else `switchyard.yaml` in the working folder, else
 * the demo that ships with Switchyard. `HOST` and `PORT` win over the file; `OPENAI_API_KEY` adds
 * OpenAI as an upstream with its models and prices, when the file does not name it.
 * @throws StartError naming file, line and field
 */
export function loadSettings(env: NodeJS.ProcessEnv, cwd = process.cwd()): LoadedSettings {
  const path = settingsPath(env, cwd);
  const settings = parseSettings(readSettings(path), path);
  const withEnv = addOpenAi(settings, env);
  return {
    settings: {
      ...withEnv,
      host: env.HOST || withEnv.host,
      port: portFromEnv(env.PORT) ?? withEnv.port,
    },
    path,
    folder: dirname(path),
  };
}

/** @param path for the message only @throws StartError naming file, line and field */
export function parseSettings(text: string, path: string): Settings {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken) {
    const { line, col } = lines.linePos(broken.pos[0]);
    throw new StartError(`${path}:${line}:${col}: not valid YAML: ${broken.message}`);
  }
  const parsed = settingsSchema.safeParse(document.toJS() ?? {});
  if (!parsed.success) throw fieldError(parsed.error.issues[0], document, lines, path);
  const unknown = findUnknownName(parsed.data);
  if (unknown) {
    throw new StartError(
      `${path}:${lineOf(unknown.path, document, lines)}: ${formatField(unknown.path)}: ${unknown.message}`,
    );
  }
  return parsed.data;
}

function settingsPath(env: NodeJS.ProcessEnv, cwd: string): string {
  const named = env.SWITCHYARD_CONFIG;
  if (named) return resolve(cwd, named);
  const local = resolve(cwd, "switchyard.yaml");
  return existsSync(local) ? local : fileURLToPath(new URL("./demo.yaml", import.meta.url));
}

function readSettings(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new StartError(`cannot read the settings file ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

function portFromEnv(text: string | undefined): number | undefined {
  if (!text) return undefined;
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new StartError(`PORT=${text} is not a port: expected a whole number from 0 to 65535`);
  }
  return port;
}

/** OpenAI becomes an upstream, its models become known, and it answers by default what no task takes. */
function addOpenAi(settings: Settings, env: NodeJS.ProcessEnv): Settings {
  if (!env.OPENAI_API_KEY || settings.upstreams.some(({ name }) => name === "openai"))
    return settings;
  const path = fileURLToPath(new URL("./openai.yaml", import.meta.url));
  const openAi = parseSettings(readSettings(path), path);
  const known = new Set(settings.models.map(({ id }) => id));
  const first = openAi.models[0]?.id;
  const embeddedId = settings.embedded?.id;
  const baseUrl = env.OPENAI_BASE_URL;
  return {
    ...settings,
    upstreams: [
      ...settings.upstreams,
      ...openAi.upstreams.map((upstream) => (baseUrl ? { ...upstream, baseUrl } : upstream)),
    ],
    models: [...settings.models, ...openAi.models.filter(({ id }) => !known.has(id))],
    routes: settings.routes.map((route) =>
      first && route.defaultModel === embeddedId
        ? { ...route, defaultModel: first, fallbacks: [...route.fallbacks, route.defaultModel] }
        : route,
    ),
  };
}

/** Names that must exist in the same file: a model's upstream. Others may be pushed or declared later. */
function findUnknownName(settings: Settings): { path: PropertyKey[]; message: string } | undefined {
  const upstreams = new Set(settings.upstreams.map(({ name }) => name));
  for (const [index, model] of settings.models.entries()) {
    if (upstreams.has(model.upstream)) continue;
    const known = [...upstreams].join(", ") || "none";
    return {
      path: ["models", index, "upstream"],
      message: `no upstream is called "${model.upstream}" (there are: ${known})`,
    };
  }
  const ids = [
    ...settings.models.map(({ id }) => id),
    ...(settings.embedded ? [settings.embedded.id] : []),
  ];
  const twice = ids.find((id, index) => ids.indexOf(id) !== index);
  return twice === undefined
    ? undefined
    : { path: ["models"], message: `two models are called "${twice}"` };
}

type Issue = z.core.$ZodIssue;
type Document = ReturnType<typeof parseDocument>;

function fieldError(
  issue: Issue | undefined,
  document: Document,
  lines: LineCounter,
  path: string,
): StartError {
  if (!issue) return new StartError(`${path}: not valid`);
  const unknownKey = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
  const field = unknownKey === undefined ? issue.path : [...issue.path, unknownKey];
  const message = unknownKey === undefined ? issue.message : "no such setting";
  return new StartError(
    `${path}:${lineOf(field, document, lines)}: ${formatField(field)}: ${message}`,
  );
}

/** The line of a field, or of the nearest thing around it that the file has. */
function lineOf(field: readonly PropertyKey[], document: Document, lines: LineCounter): number {
  for (let length = field.length; length > 0; length--) {
    const node = document.getIn(field.slice(0, length), true);
    const range =
      node && typeof node === "object" && "range" in node
        ? (node.range as [number, number, number] | undefined)
        : undefined;
    if (range) return lines.linePos(range[0]).line;
  }
  return 1;
}

function formatField(field: readonly PropertyKey[]): string {
  return field
    .map((part, index) =>
      typeof part === "number" ? `[${part}]` : `${index === 0 ? "" : "."}${String(part)}`,
    )
    .join("");
}
