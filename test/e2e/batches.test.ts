/** Batches on the running product: over its own engine, by the official clients, and through a kill in the middle. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import OpenAI, { toFile } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type OpenAiEmulator, startOpenAiEmulator } from "../emulators/openai.ts";
import { call, eventually } from "../support/api.ts";
import { findPython } from "../support/optional-parts.ts";
import { type RunningServer, startGatewayAlone, startServer } from "../support/server.ts";
import { demoBase, type SettingsFile, writeSettings } from "../support/settings.ts";
import { type OpenStores, storeKinds } from "../support/stores.ts";

const python = await findPython("openai");
const endpoint = "/v1/chat/completions";
const linesUnderWay = 4;
const limits = { batchLinesUnderWayMax: linesUnderWay, batchLeaseMs: 3000, batchPollMs: 200 };
const operatorKey = randomBytes(16).toString("hex");

for (const stores of await storeKinds()) {
  describe.skipIf(stores.skipped)(`on ${stores.name}`, () => {
    let emulator: OpenAiEmulator;
    let settings: SettingsFile;
    let opened: OpenStores;
    let dataDir: string;
    let server: RunningServer;

    beforeAll(async () => {
      emulator = await startOpenAiEmulator({
        answer: () => "done",
        // As long as a model takes; without it nothing would be under way when the process is killed.
        before: () => new Promise((resolve) => setTimeout(resolve, 50)),
      });
      settings = await writeSettings({
        upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
        models: [
          {
            id: "remote",
            upstream: "emulated",
            prices: { input: "1", output: "2", batch: { input: "0.5", output: "1" } },
          },
        ],
        routes: [{ name: "auto", defaultModel: "support-tiny" }],
        embedded: demoBase,
        gateway: limits,
      });
      opened = await stores.open();
      dataDir = await mkdtemp(join(tmpdir(), "switchyard-batches-"));
      server = await start();
    });
    afterAll(async () => {
      await server?.stop();
      await opened?.close();
      await settings?.remove();
      await emulator?.close();
      if (dataDir) await rm(dataDir, { recursive: true, force: true });
    });

    const start = () =>
      startServer({
        dataDir,
        env: {
          ...opened.env,
          SWITCHYARD_CONFIG: settings.path,
          SWITCHYARD_OPERATOR_KEY: operatorKey,
        },
      });
    const client = (url = server.url) =>
      new OpenAI({ baseURL: `${url}/v1`, apiKey: server.apiKey, maxRetries: 0 });

    async function createBatch(model: string, count: number) {
      const lines = Array.from({ length: count }, (_, index) =>
        JSON.stringify({
          custom_id: `line-${index}`,
          method: "POST",
          url: endpoint,
          body: { model, max_tokens: 4, messages: [{ role: "user", content: `line-${index}` }] },
        }),
      );
      const file = await toFile(Buffer.from(lines.join("\n")), "input.jsonl");
      const { id } = await client().files.create({ file, purpose: "batch" });
      const completion_window = "24h";
      return client().batches.create({ input_file_id: id, endpoint, completion_window });
    }

    const untilOver = (id: string, url?: string) =>
      eventually(
        "the batch",
        async () => {
          const batch = await client(url).batches.retrieve(id);
          return ["completed", "failed", "expired"].includes(batch.status) ? batch : undefined;
        },
        120_000,
      );

    const untilBegun = (id: string) =>
      eventually("some lines", async () => {
        const { request_counts: counts } = await client().batches.retrieve(id);
        return (counts?.completed ?? 0) >= 20 || undefined;
      });

    async function answersOf(fileId: string | null | undefined, url?: string) {
      const text = await (await client(url).files.content(fileId ?? "")).text();
      const lines = text.trimEnd().split("\n");
      return lines.map((line) => JSON.parse(line) as { custom_id: string });
    }

    test("a batch runs on the engine, and through a route", async () => {
      for (const model of ["support-tiny", "auto"]) {
        const over = await untilOver((await createBatch(model, 6)).id);
        expect(over.request_counts).toEqual({ total: 6, completed: 6, failed: 0 });
        expect(await answersOf(over.output_file_id)).toHaveLength(6);
      }
    });

    test("SIGKILL in the middle of a batch loses no finished line and repeats none", async () => {
      const count = 120;
      const batch = await createBatch("remote", count);
      await untilBegun(batch.id);
      await server.kill();
      server = await start();
      const over = await untilOver(batch.id);
      expect(over).toMatchObject({
        status: "completed",
        request_counts: { total: count, completed: count, failed: 0 },
      });
      const ids = Array.from({ length: count }, (_, index) => `line-${index}`);
      const answers = await answersOf(over.output_file_id);
      expect(answers.map(({ custom_id }) => custom_id)).toEqual(ids);
      // What was under way when it was killed is asked again, and nothing else is.
      const asked = emulator.requests.filter(({ body }) => body.model === "remote");
      expect(asked.length).toBeGreaterThanOrEqual(count);
      expect(asked.length).toBeLessThanOrEqual(count + linesUnderWay);

      const report = await call(
        server.url,
        server.adminKey,
        "GET",
        `/v1/organization/usage/completions?start_time=${batch.created_at - 60}&group_by=batch&models=remote`,
      );
      const { data } = report.body as { data: { results: { batch: boolean }[] }[] };
      const results = data.flatMap((bucket) => bucket.results);
      expect(results.map((it) => it.batch)).toEqual(results.map(() => true));
      expect(results.length).toBeGreaterThan(0);
    });

    test.skipIf(stores.name === "PGlite")(
      "what a killed gateway leaves another one finishes",
      async () => {
        const second = await startGatewayAlone({
          ...opened.env,
          SWITCHYARD_OPERATOR_KEY: operatorKey,
          SWITCHYARD_REGISTRY_URL: server.url,
          SWITCHYARD_LIMITS: JSON.stringify(limits),
          SWITCHYARD_UPSTREAMS: JSON.stringify([
            { name: "emulated", type: "openai", baseUrl: emulator.baseUrl },
          ]),
        });
        const before = emulator.requests.length;
        const count = 120;
        // Whichever of the two takes them: one each, and one of them is left behind.
        const batches = [await createBatch("remote", count), await createBatch("remote", count)];
        for (const { id } of batches) await untilBegun(id);
        await server.kill();
        for (const { id } of batches) {
          const over = await untilOver(id, second.url);
          expect(over.request_counts).toEqual({ total: count, completed: count, failed: 0 });
          expect(await answersOf(over.output_file_id, second.url)).toHaveLength(count);
        }
        const asked = emulator.requests.length - before;
        expect(asked).toBeLessThanOrEqual(2 * (count + linesUnderWay));
        server = await start();
        await second.stop();
      },
    );

    test.skipIf(!python)("the Python client sends parts, runs a batch and reads it", async () => {
      const script = fileURLToPath(new URL("clients/batches_client.py", import.meta.url));
      const { stdout } = await promisify(execFile)(
        python ?? "",
        [script, `${server.url}/v1`, server.apiKey, "support-tiny"],
        { timeout: 120_000 },
      );
      expect(JSON.parse(stdout)).toEqual({
        upload: "completed",
        same: true,
        listed: true,
        deleted: true,
        status: "completed",
        counts: { total: 4, completed: 4, failed: 0 },
        answered: ["line-0", "line-1", "line-2", "line-3"],
        statuses: [200],
        newest: true,
      });
    });
  });
}
