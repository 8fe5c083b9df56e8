/** What a machine may have beyond Node, and what is skipped without it. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { promisify } from "node:util";

export type OptionalPart = { name: string; found: boolean; detail: string };

/** The fixtures that are too large to live in the repository, beside a checkout that has them. */
const sharedFixtures = new URL("../../../shared/fixtures/", import.meta.url);

export async function optionalParts(): Promise<OptionalPart[]> {
  const [redis, python, anthropic, lmEval, schemathesis] = await Promise.all([
    findRedis(),
    findPython("openai"),
    findPython("anthropic"),
    findLmEval(),
    findSchemathesis(),
  ]);
  const claude = findClaudeCode();
  const database = process.env.TEST_DATABASE_URL;
  const browser = findBrowser();
  return [
    {
      name: "Postgres",
      found: Boolean(database),
      detail: database
        ? "TEST_DATABASE_URL"
        : "TEST_DATABASE_URL is not set, so the database tests run on PGlite alone",
    },
    {
      name: "Redis",
      found: redis !== undefined,
      detail:
        redis ??
        "no server at TEST_REDIS_URL or 127.0.0.1:6379, so shared limits and budgets are not tested",
    },
    {
      name: "Python openai client",
      found: python !== undefined,
      detail:
        python ??
        "no python3 with the openai package (PYTHON names another), so that client is not tested",
    },
    {
      name: "lm-eval",
      found: lmEval !== undefined,
      detail:
        lmEval ??
        "no python3 with lm_eval[api] and transformers (PYTHON names another), so its scores are not compared",
    },
    {
      name: "schemathesis",
      found: schemathesis !== undefined,
      detail:
        schemathesis ??
        "no python3 with schemathesis (PYTHON names another), so the OpenAPI document is not fuzzed",
    },
    {
      name: "Python anthropic client",
      found: anthropic !== undefined,
      detail:
        anthropic ??
        "no python3 with the anthropic package (PYTHON names another), so that client is not tested",
    },
    {
      name: "Claude Code",
      found: claude !== undefined,
      detail: claude ?? "CLAUDE_CODE names no program, so that agent is not run",
    },
    {
      name: "Chromium",
      found: browser !== undefined,
      detail: browser ?? "not installed (CHROMIUM names one), so the dashboard is not driven",
    },
    {
      name: "large fixtures",
      found: existsSync(sharedFixtures),
      detail: existsSync(sharedFixtures)
        ? "../shared/fixtures"
        : "no ../shared/fixtures, so only the cases in the repository run",
    },
  ];
}

/** Where Postgres and Redis are, or the reason why what needs both is skipped. */
export async function findStores(): Promise<{ postgres: string; redis: string } | string> {
  const postgres = process.env.TEST_DATABASE_URL;
  const redis = await findRedis();
  if (!postgres) return "TEST_DATABASE_URL is not set";
  return redis === undefined ? "no Redis at TEST_REDIS_URL or 127.0.0.1:6379" : { postgres, redis };
}

/** The address of a Redis that answers, or undefined. */
async function findRedis(): Promise<string | undefined> {
  const url = process.env.TEST_REDIS_URL ?? "redis://127.0.0.1:6379";
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port || 6379), timeout: 500 });
    const end = (found: boolean) => {
      socket.destroy();
      resolve(found ? url : undefined);
    };
    socket.on("connect", () => socket.write("PING\r\n"));
    socket.on("data", () => end(true));
    socket.on("error", () => end(false));
    socket.on("timeout", () => end(false));
  });
}

/** A Python that can import an official client, or undefined. */
export async function findPython(client: "openai" | "anthropic"): Promise<string | undefined> {
  const python = process.env.PYTHON ?? "python3";
  try {
    await promisify(execFile)(python, ["-c", `import ${client}`], { timeout: 30_000 });
    return python;
  } catch {
    return undefined;
  }
}

/** A Python that has lm-eval and the tokenizers that it works with, or undefined. */
export async function findLmEval(): Promise<string | undefined> {
  const python = process.env.PYTHON ?? "python3";
  const looks = ["lm_eval", "transformers", "aiohttp", "tenacity"]
    .map((name) => `find_spec("${name}")`)
    .join(" and ");
  const code = `from importlib.util import find_spec; exit(0 if ${looks} else 1)`;
  try {
    await promisify(execFile)(python, ["-c", code], { timeout: 30_000 });
    return python;
  } catch {
    return undefined;
  }
}

/** A Python that has schemathesis, or undefined. */
export async function findSchemathesis(): Promise<string | undefined> {
  const python = process.env.PYTHON ?? "python3";
  const code = `from importlib.util import find_spec; exit(0 if find_spec("schemathesis") else 1)`;
  try {
    await promisify(execFile)(python, ["-c", code], { timeout: 30_000 });
    return python;
  } catch {
    return undefined;
  }
}

/** The program of `@anthropic-ai/claude-code`, where its tests may run it; never one that merely lies on the path. */
export function findClaudeCode(): string | undefined {
  const path = process.env.CLAUDE_CODE;
  return path && existsSync(path) ? path : undefined;
}

/** A Chromium, or a browser made of it. */
export function findBrowser(): string | undefined {
  return [
    process.env.CHROMIUM,
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
  ].find((path) => path !== undefined && path !== "" && existsSync(path));
}
