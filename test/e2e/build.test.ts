/** What `npm run build` leaves is whole: it starts by plain Node, answers, and brings its command line along. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, expect, test } from "vitest";
import { call } from "../support/api.ts";
import { startServer } from "../support/server.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const dist = join(root, "dist");
const run = promisify(execFile);

beforeAll(async () => {
  await run(process.execPath, ["--import", "tsx", "deploy/build/main.ts"], { cwd: root });
}, 120_000);

test("the built server migrates, serves the dashboard, and answers with the demo's adapters", async () => {
  const server = await startServer({ program: ["dist/deploy/all-in-one/main.js"] });
  const body = {
    model: "support-tiny:support-triage",
    messages: [{ role: "user", content: "Triage this message: I was charged twice!" }],
  };
  const answer = await call(server.url, server.apiKey, "POST", "/v1/chat/completions", body);
  expect(answer.status).toBe(200);
  const page = await fetch(`${server.url}/`);
  expect(await page.text()).toContain("<title>");
  expect((await fetch(`${server.url}/assets/chart.js`)).status).toBe(200);

  const { stdout } = await run(
    process.execPath,
    [join(dist, "deploy/cli/bin.js"), "report", "--json", "--url", server.url],
    { env: { PATH: process.env.PATH, SWITCHYARD_API_KEY: server.apiKey } },
  );
  expect(JSON.parse(stdout)).toMatchObject({ group_by: ["model"] });
  expect(await server.stop()).toBe(0);
});

test("the built command line starts the servers' own commands", async () => {
  const { stdout } = await run(
    process.execPath,
    [join(dist, "deploy/cli/bin.js"), "config", "check"],
    {
      cwd: dist,
      env: { PATH: process.env.PATH },
    },
  );
  expect(stdout).toContain("the settings are right");
});

test("tests, fixtures and what needs them stay out of it", () => {
  expect(existsSync(join(dist, "test"))).toBe(false);
  expect(existsSync(join(dist, "adapter-server/__fixtures__"))).toBe(false);
});
