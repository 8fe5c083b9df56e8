/** What a start refuses, and how it says so. */
import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { launch, startServer } from "../support/server.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-start-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What the terminal shows when the start is refused. */
async function refusal(
  env: Record<string, string>,
  dataDir = join(folder, "data"),
): Promise<string> {
  const started = await startServer({ dataDir, env }).catch((error: Error) => error.message);
  if (typeof started === "string") return started;
  await started.stop();
  throw new Error("the server started");
}

test("a start asks no provider anything, whatever state it is in", async () => {
  const asked: string[] = [];
  const provider = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(500).end();
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => provider.once("listening", resolve));
  const { port } = provider.address() as AddressInfo;
  const path = join(folder, "remote.yaml");
  await writeFile(
    path,
    `upstreams: [{ name: u, type: openai, baseUrl: "http://127.0.0.1:${port}/v1" }]\nmodels: [{ id: m, upstream: u }]\n`,
  );
  const server = await startServer({ env: { SWITCHYARD_CONFIG: path } });
  expect(server.output()).toContain('"model":"m"');
  expect(await server.stop()).toBe(0);
  provider.close();
  expect(asked).toEqual([]);
});

describe("a start is refused with one clear error", () => {
  test("when the settings are not YAML, naming the line", async () => {
    const path = join(folder, "broken.yaml");
    await writeFile(path, "routes:\n  - name: [auto\n");
    expect(await refusal({ SWITCHYARD_CONFIG: path })).toMatch(
      /broken\.yaml:\d+:\d+: not valid YAML/,
    );
  });

  test("when a setting does not exist, naming line and field", async () => {
    const path = join(folder, "unknown.yaml");
    await writeFile(
      path,
      "port: 0\nmodels:\n  - id: m\n    upstream: u\n    temprature: 1\nupstreams:\n  - { name: u, type: openai, baseUrl: 'http://127.0.0.1:1' }\n",
    );
    expect(await refusal({ SWITCHYARD_CONFIG: path })).toMatch(
      /unknown\.yaml:5: models\[0\]\.temprature: no such setting/,
    );
  });

  test("when a price is a number and not a string, because money is never a float", async () => {
    const path = join(folder, "price.yaml");
    await writeFile(
      path,
      "upstreams:\n  - { name: u, type: openai, baseUrl: 'http://127.0.0.1:1' }\nmodels:\n  - id: m\n    upstream: u\n    prices:\n      input: 0.1\n      output: '0.2'\n",
    );
    expect(await refusal({ SWITCHYARD_CONFIG: path })).toMatch(
      /price\.yaml:7: models\[0\]\.prices\.input: write the price in quotes/,
    );
  });

  test("when a model names an upstream that is not there", async () => {
    const path = join(folder, "upstream.yaml");
    await writeFile(path, "models:\n  - { id: m, upstream: nowhere }\n");
    expect(await refusal({ SWITCHYARD_CONFIG: path })).toMatch(
      /upstream\.yaml:2: models\[0\]\.upstream: no upstream is called "nowhere"/,
    );
  });

  test("when the port is in use, naming it and how to choose another", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as AddressInfo;
    const message = await refusal({ PORT: String(port) });
    other.close();
    expect(message).toMatch(new RegExp(`port ${port} .*in use.*PORT`, "s"));
  });

  test("when PORT is no port", async () => {
    expect(await refusal({ PORT: "http" })).toContain("PORT=http is not a port");
  });

  test("when the data folder is a file", async () => {
    const path = join(folder, "a-file");
    await writeFile(path, "");
    expect(await refusal({}, path)).toMatch(
      /data folder .*a-file cannot be written.*SWITCHYARD_DATA_DIR/s,
    );
  });

  test.skipIf(process.getuid?.() === 0)(
    "when the data folder may not be written (skipped for root, who may)",
    async () => {
      const path = join(folder, "read-only");
      await writeFile(join(folder, "keep"), "");
      await chmod(folder, 0o500);
      expect(await refusal({}, path)).toMatch(/cannot be written/);
      await chmod(folder, 0o700);
    },
  );
});

const npmStart = ["--import", "tsx", "deploy/all-in-one/main.ts"];
const cliServe = ["deploy/cli/bin.js", "serve"];

test.each([
  ["npm start", "SIGINT", "opening the database", 130, npmStart],
  ["npm start", "SIGTERM", "pushing support-tiny", 143, npmStart],
  ["switchyard serve", "SIGINT", "loading support-tiny", 130, cliServe],
] as const)(
  "%s ends on %s while it says '%s', with everything closed and no stack",
  async (_, signal, step, exitCode, program) => {
    const dataDir = await mkdtemp(join(folder, "stopped-"));
    const started = launch(program, { PORT: "0", SWITCHYARD_DATA_DIR: dataDir });
    await started.said(new RegExp(`(${step})`));
    expect(await started.end(signal)).toBe(exitCode);
    expect(started.output()).toMatch(/stopped before it was ready\n$/);
    expect(started.output()).not.toMatch(/^\s+at |Error/m);
    expect(existsSync(join(dataDir, "lock"))).toBe(false);

    // What it had begun is no obstacle to the next start.
    const next = await startServer({ dataDir });
    expect(await next.stop()).toBe(0);
  },
);

test("a start is told in one line that a live process holds the data folder", async () => {
  const first = await startServer();
  for (const program of [npmStart, cliServe]) {
    const second = launch(program, { PORT: "0", SWITCHYARD_DATA_DIR: first.dataDir });
    expect(await second.ended()).toBe(1);
    expect(second.output()).toMatch(
      /^switchyard: the data folder \S+ is in use by process \d+\. Stop it, or set SWITCHYARD_DATA_DIR to another folder\.\n$/,
    );
  }
  expect(await first.stop()).toBe(0);
});
