/** schemathesis against the running product, by our own OpenAPI document: no answer is our fault, and each is as it is told. */
import { execFile } from "node:child_process";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTenant, type Tenant } from "../support/api.ts";
import { type SampleUpstream, startSampleUpstream } from "../support/fuzz/upstream.ts";
import { findSchemathesis } from "../support/optional-parts.ts";
import { type RunningServer, startServer } from "../support/server.ts";
import { type SettingsFile, writeSettings } from "../support/settings.ts";

const python = await findSchemathesis();
const checks = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_schema_conformance",
];
/** For each of the two runs. */
const secondsMax = 40;

describe.skipIf(python === undefined)("schemathesis", () => {
  let upstream: SampleUpstream;
  let settings: SettingsFile;
  let server: RunningServer;
  let tenant: Tenant;
  beforeAll(async () => {
    upstream = await startSampleUpstream();
    settings = await writeSettings({
      upstreams: upstream.settings.map(({ apiKey: _, ...rest }) => ({
        ...rest,
        apiKeyEnv: "SAMPLE_UPSTREAM_KEY",
      })),
      models: [
        { id: "dear-model", upstream: "openai-chat", prices: { input: "0.10", output: "0.50" } },
      ],
      embedded: null,
      gateway: { breakerFailures: 1_000_000 },
      // What the examples of the document ask for.
      routes: [{ name: "auto", defaultModel: "dear-model", fallbacks: [] }],
    });
    server = await startServer({
      env: { SWITCHYARD_CONFIG: settings.path, SAMPLE_UPSTREAM_KEY: "key-of-the-sample-upstream" },
    });
    tenant = await createTenant(server.url, server.adminKey, "tenant");
  });
  afterAll(async () => {
    await server?.stop();
    await settings?.remove();
    await upstream?.close();
  });

  test.each([
    ["a project's key", () => tenant.key, ["OpenAI", "Anthropic", "Google", "AWS"]],
    ["an admin's key", () => server.adminKey, []],
  ] as const)("finds nothing with %s", async (_, key, tags) => {
    const { code, output } = await run([
      `${server.url}/openapi.json`,
      ...["--header", `Authorization: Bearer ${key()}`],
      ...["--checks", checks.join(",")],
      ...["--phases", "examples,coverage,fuzzing"],
      ...["--max-time", String(secondsMax), "--max-examples", "20", "--seed", "1"],
      ...["--generation-database", "none"],
      ...["--continue-on-failure", "--warnings", "off", "--no-color", "--no-shrink"],
      // It knows no lines of JSON.
      ...["--exclude-operation-id", "pushDataset"],
      // It answers until its client leaves, and no client of this kind does.
      ...["--exclude-operation-id", "followRequests"],
      ...tags.flatMap((tag) => ["--include-tag", tag]),
      ...(tags.length > 0 ? [] : projectTags.flatMap((tag) => ["--exclude-tag", tag])),
    ]);
    expect(output).toMatch(/Test cases:\s*\n\s*[1-9]\d+ generated/);
    expect(`${code} ${output.slice(-20_000)}`).toMatch(/^0 /);
  });
});

const projectTags = ["OpenAI", "Anthropic", "Google", "AWS"];

function run(args: readonly string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      python ?? "",
      ["-c", "from schemathesis.cli import schemathesis; schemathesis()", "run", ...args],
      { cwd: tmpdir(), maxBuffer: 64 << 20, env: { ...process.env, PYTHONUTF8: "1" } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, output: stdout + stderr }),
    );
  });
}
