/**
 * The product's promise, told once from end to end: an adapter is pushed, measured and promoted by the command
 * line, takes a task's traffic from a dearer model, and finance sees every pico-dollar of it. Whatever it is
 * stored in.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { CostReport } from "../../sdk/client/reports.ts";
import type { RouteDecision } from "../../sdk/client/routes.ts";
import type { EvalRun } from "../../sdk/protocol/admin.ts";
import type { Adapter, AdapterVersion } from "../../sdk/protocol/catalog.ts";
import { formatUsd, type PicoUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { call, createTenant, type Tenant } from "../support/api.ts";
import { type Cli, openCli } from "../support/cli.ts";
import type { RunningServer } from "../support/server.ts";
import { demoModelPath } from "../support/settings.ts";
import { answerAsDearModel, dataset, rows, type Stage, setStage } from "../support/stage.ts";
import { type OpenStores, storeKinds } from "../support/stores.ts";
import { clients, Team } from "../support/team.ts";

const evalRows = 60;
const floor = 0.8;

for (const stores of await storeKinds()) {
  describe.skipIf(stores.skipped)(`on ${stores.name}`, () => {
    let opened: OpenStores;
    let stage: Stage;
    let server: RunningServer;
    let folder: string;
    /** The ML engineer has the project's key alone; finance and the administrator have the admin's. */
    let engineer: Cli;
    let admin: Cli;
    let team: Team;
    let other: Tenant;
    let run: EvalRun;
    let version: AdapterVersion;

    beforeAll(async () => {
      opened = await stores.open();
      stage = await setStage(opened);
      ({ server } = stage);
      folder = await mkdtemp(join(tmpdir(), "switchyard-story-"));
      admin = openCli({ SWITCHYARD_URL: server.url, SWITCHYARD_DATA_DIR: server.dataDir });
    });
    afterAll(async () => {
      await stage?.close();
      await opened?.close();
      if (folder) await rm(folder, { recursive: true, force: true });
    });

    describe("an adapter takes a task's traffic", () => {
      test("a project gets its key and its route from the administrator's terminal", async () => {
        const project = await admin.json<{ id: string }>(
          ...["projects", "create", "support", "--team", "customer-care"],
        );
        const { key } = await admin.json<{ key: string }>(
          ...["keys", "create", "application", "--project", "support"],
        );
        team = new Team(server.url, { id: project.id, key });
        engineer = openCli({
          SWITCHYARD_URL: `${server.url}/v1`,
          SWITCHYARD_API_KEY: key,
          SWITCHYARD_DATA_DIR: folder,
        });
        const routeFile = join(folder, "auto.yaml");
        await writeFile(
          routeFile,
          JSON.stringify({
            name: "auto",
            projectId: project.id,
            defaultModel: "dear-model",
            tasks: [
              {
                task: "support-triage",
                rules: [{ startsWith: "Triage this message:" }],
                candidates: ["support-tiny:triage", "dear-model"],
                qualityFloor: floor,
              },
            ],
          }),
        );
        await admin.json("routes", "set", routeFile);
        other = await createTenant(server.url, server.adminKey, "another team");
      });

      test("until anything is measured, `auto` goes to the dear model, with either official client", async () => {
        expect(await team.askBoth(rows.slice(500, 503))).toEqual(new Set(["dear-model"]));
      });

      test("the ML engineer pushes an adapter, which changes no traffic", async () => {
        const pushed = await engineer.json<{ adapter: Adapter; version: AdapterVersion }>(
          ...["adapters", "push", demoModelPath("adapters/support-triage")],
          ...["--base", "support-tiny", "--name", "triage", "--lineage", "commit=abc123"],
        );
        version = pushed.version;
        expect(version).toMatchObject({ version: 1, lineage: { commit: "abc123" } });
        expect(await engineer.json<Adapter[]>("adapters", "list")).toMatchObject([
          { base: "support-tiny", name: "triage", aliases: {} },
        ]);
        expect(await team.askBoth(rows.slice(503, 504))).toEqual(new Set(["dear-model"]));
      });

      test("it cannot be promoted before it was measured, and the terminal says what to do", async () => {
        const { exitCode, stderr } = await engineer.run("adapters", "promote", "triage@1");
        expect(exitCode).toBe(1);
        expect(stderr).toContain("no_evidence");
        expect(stderr).toContain("switchyard evals run");
      });

      test("an eval gives both candidates a score with its interval, a cost, a latency, and the adapter's digest", async () => {
        run = await engineer.json<EvalRun>(
          ...["evals", "run", "--task", "support-triage", "--dataset", dataset],
          ...["--candidates", "support-tiny:triage@1,dear-model", "--scorer", "exact"],
          ...["--limit", String(evalRows), "--floor", String(floor)],
        );
        expect(run).toMatchObject({ status: "done", rows: evalRows, answered: 2 * evalRows });
        for (const result of run.candidates) {
          expect(result).toMatchObject({ n: evalRows, errored: 0, unpriced: 0 });
          expect(result.score).toBe(result.correct / evalRows);
          expect(result.lower).toBeGreaterThan(floor);
          expect(result.lower).toBeLessThanOrEqual(result.score ?? Number.NaN);
          expect(result.upper).toBeGreaterThanOrEqual(result.score ?? Number.NaN);
          expect(result.latencyP50Ms).toBeGreaterThan(0);
          expect(result.latencyP95Ms).toBeGreaterThanOrEqual(result.latencyP50Ms ?? Number.NaN);
        }
        const [adapter, dear] = run.candidates;
        expect(adapter).toMatchObject({
          candidate: "support-tiny:triage@1",
          adapterDigest: version.digest,
        });
        expect(dear).toMatchObject({ candidate: "dear-model" });
        expect(dear?.adapterDigest).toBeUndefined();
        const expected = rows
          .slice(0, evalRows)
          .filter(({ question, reference }) => answerAsDearModel(question) === reference);
        expect(dear?.correct).toBe(expected.length);
        expect(parseUsd(adapter?.totalCostUsd ?? "")).toBeLessThan(
          parseUsd(dear?.totalCostUsd ?? ""),
        );

        const answers = await team.evalAnswers(run.id);
        expect(answers).toHaveLength(2 * evalRows);
        for (const answer of answers) {
          const isAdapters = answer.candidate === "support-tiny:triage@1";
          expect(answer.adapterDigest).toBe(isAdapters ? version.digest : undefined);
        }
      });

      test("evidence alone moves nothing; promotion does, and `explain` tells why", async () => {
        const before = await explain();
        expect(before.attempts[0]).toBe("dear-model");
        expect(before.considered).toContainEqual(
          expect.objectContaining({ model: "support-tiny:triage", reason: "unknown" }),
        );

        await engineer.json("adapters", "promote", "triage@1", "--reason", `eval ${run.id}`);
        const after = await explain();
        expect(after).toMatchObject({ task: "support-triage", qualityFloor: floor });
        expect(after.attempts).toEqual(["support-tiny:triage@1", "dear-model"]);
        const [chosen, second] = after.considered;
        expect(chosen).toMatchObject({
          model: "support-tiny:triage@1",
          verdict: "planned",
          evidence: {
            n: evalRows,
            score: run.candidates[0]?.score,
            lower: run.candidates[0]?.lower,
          },
        });
        expect(chosen?.explanation).toContain("clears the floor");
        expect(parseUsd(chosen?.expectedCostUsd ?? "")).toBeLessThan(
          parseUsd(second?.expectedCostUsd ?? ""),
        );
        expect(await team.askBoth(rows.slice(500, 503))).toEqual(
          new Set(["support-tiny:triage@1"]),
        );
      });

      test("what is not the task still goes to the dear model", async () => {
        const { model } = await team.ask(clients[0], { content: "Good morning!" });
        expect(model).toBe("dear-model");
      });

      test("a new version without evidence moves the traffic back, and a rollback returns it", async () => {
        await engineer.json(
          ...["adapters", "push", demoModelPath("adapters/tone-formal")],
          ...["--base", "support-tiny", "--name", "triage"],
        );
        const refused = await engineer.run("adapters", "promote", "triage@2");
        expect(refused).toMatchObject({
          exitCode: 1,
          stderr: expect.stringContaining("no_evidence"),
        });

        await engineer.json("adapters", "promote", "triage@2", "--force", "--reason", "by mistake");
        const decision = await explain();
        expect(decision.attempts).toEqual(["dear-model"]);
        expect(decision.considered).toContainEqual(
          expect.objectContaining({ model: "support-tiny:triage@2", reason: "not_measured" }),
        );
        expect(await team.askBoth(rows.slice(504, 505))).toEqual(new Set(["dear-model"]));

        await engineer.json("adapters", "rollback", "triage");
        expect(await team.askBoth(rows.slice(504, 505))).toEqual(
          new Set(["support-tiny:triage@1"]),
        );
        const { data } = await engineer.json<{ data: { type: string; detail: unknown }[] }>(
          ...["adapters", "history", "triage"],
        );
        expect(data.map(({ type }) => type)).toEqual([
          "adapter.created",
          "adapter.version_pushed",
          "alias.moved",
          "adapter.version_pushed",
          "alias.moved",
          "alias.rolled_back",
        ]);
        expect(data[2]?.detail).toMatchObject({ reason: `eval ${run.id}` });
      });

      test("both clients get the same answer from an adapter and from a weighted mix of two", async () => {
        for (const body of [
          { model: "support-tiny:triage@1" },
          {
            model: "support-tiny",
            adapters: [
              { model: "triage@1", weight: 0.9 },
              { model: "triage@2", weight: 0.1 },
            ],
          },
        ]) {
          const answers = [];
          for (const Client of clients) {
            const asked = await team.ask(Client, { ...body, content: rows[7]?.question ?? "" });
            // The second one finds the prompt cached, which its usage tells.
            const { requestId: _, usage, ...answer } = asked;
            answers.push({ ...answer, tokens: usage?.total_tokens });
          }
          const [seven, six] = answers;
          expect(seven?.text).not.toBe("");
          expect(six).toEqual(seven);
        }
      });
    });

    describe("finance", () => {
      test("sees in the report exactly what all answers said that they cost", async () => {
        const report = await engineer.json<CostReport>("report", "costs", "--by", "model,adapter");
        expect(report.totals).toMatchObject({
          cost_usd: formatUsd(team.told.cost),
          requests: team.told.requests,
          unpriced_requests: 0,
        });
        expect(sum(report.data.map((row) => row.cost_usd))).toBe(team.told.cost);
        expect(report.data.map(({ model, adapter }) => [model, adapter])).toEqual(
          expect.arrayContaining([
            ["dear-model", null],
            ["support-tiny", "triage"],
            ["support-tiny", null],
          ]),
        );
        // What the route saved is told beside it, against its default model.
        expect(parseUsd(report.totals.saving?.saving_usd ?? "")).toBeGreaterThan(0n);
      });

      test("sees the same in the CSV, of one project among all", async () => {
        const { stdout, exitCode } = await admin.run(
          ...["report", "costs", "--by", "project,model,adapter", "--csv"],
        );
        expect(exitCode).toBe(0);
        const [header = [], ...lines] = stdout
          .trim()
          .split("\r\n")
          .map((line) => line.split(","));
        const at = (name: string) => header.indexOf(name);
        const ours = lines.filter((line) => line[at("project")] === team.id);
        expect(sum(ours.map((line) => line[at("cost_usd")] ?? ""))).toBe(team.told.cost);
        expect(ours.reduce((count, line) => count + Number(line[at("requests")]), 0)).toBe(
          team.told.requests,
        );
      });

      test("finds it through OpenAI's own client in costs and usage of the organization", async () => {
        const { usage } = new OpenAI({
          baseURL: `${server.url}/v1`,
          apiKey: null,
          adminAPIKey: server.adminKey,
        }).admin.organization;
        const start_time = Math.floor(Date.now() / 1000) - 86_400;

        const costs = await usage.costs({ start_time, project_ids: [team.id] });
        const amounts = costs.data.flatMap(({ results }) =>
          // Doubles carry these amounts exactly: fewer than fifteen digits, of which twelve after the point.
          results.map((it) => ("amount" in it ? (it.amount?.value ?? 0).toFixed(12) : "0")),
        );
        expect(sum(amounts)).toBe(team.told.cost);

        const perLine = await usage.costs({
          start_time,
          project_ids: [team.id],
          group_by: ["line_item"],
        });
        const lines = perLine.data.flatMap(({ results }) => results);
        expect(lines.map((it) => "line_item" in it && it.line_item)).toEqual(
          expect.arrayContaining(["dear-model, input", "support-tiny:triage, output"]),
        );
        expect(
          sum(lines.map((it) => ("amount" in it ? (it.amount?.value ?? 0).toFixed(12) : "0"))),
        ).toBe(team.told.cost);

        const used = await usage.completions({ start_time, project_ids: [team.id] });
        const totals = { requests: 0, inputTokens: 0, outputTokens: 0 };
        for (const result of used.data.flatMap(({ results }) => results)) {
          if (result.object !== "organization.usage.completions.result") continue;
          totals.requests += result.num_model_requests;
          totals.inputTokens += result.input_tokens;
          totals.outputTokens += result.output_tokens;
        }
        const { cost: _, ...expected } = team.told;
        expect(totals).toEqual(expected);
      });

      test("finds each request with its cost, its double entry and the decision that sent it there", async () => {
        const sent = await team.ask(clients[0], { content: rows[510]?.question ?? "" });
        const record = await team.request(sent.requestId);
        expect(record).toMatchObject({
          project_id: team.id,
          team: "customer-care",
          requested_model: "auto",
          route: "auto",
          task: "support-triage",
          model: "support-tiny",
          adapter: "triage",
          adapter_version: 1,
          adapter_digest: version.digest,
          default_model: "dear-model",
          outcome: "ok",
          usage_estimated: false,
          cost_usd: formatUsd(sent.cost),
          decision: {
            requested: "auto",
            attempts: ["support-tiny:triage@1", "dear-model"],
            tried: [{ model: "support-tiny:triage@1", upstream: "embedded" }],
          },
        });
        const entries = record.entries as { amount_usd: string }[];
        expect(entries.length).toBeGreaterThan(1);
        expect(sum(entries.map(({ amount_usd }) => amount_usd))).toBe(0n);
      });

      test("sees nothing of one team in the other's reports, lists and names", async () => {
        const stranger = openCli({
          SWITCHYARD_URL: server.url,
          SWITCHYARD_API_KEY: other.key,
          SWITCHYARD_DATA_DIR: folder,
        });
        expect(await stranger.json("adapters", "list")).toEqual([]);
        expect(await stranger.json("evals", "list")).toEqual([]);
        expect(await stranger.json("datasets", "list")).toEqual([]);
        const shown = await stranger.run("evals", "show", run.id);
        expect(shown).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("not_found") });
        const report = await stranger.json<CostReport>("report", "costs", "--by", "model,adapter");
        expect(report).toMatchObject({ data: [], totals: { requests: 0, cost_usd: "0" } });
        const models = await stranger.json<{ id: string }[]>("models", "served");
        expect(models.map(({ id }) => id)).not.toContain("support-tiny:triage");
        const requests = await call(server.url, other.key, "GET", "/api/requests");
        expect(requests.body).toMatchObject({ data: [] });
        const foreign = await call(
          server.url,
          other.key,
          "GET",
          `/api/requests?project=${team.id}&limit=100`,
        );
        expect(foreign.body).toMatchObject({ data: [] });
      });
    });

    function explain(): Promise<RouteDecision> {
      return engineer.json("routes", "explain", "--message", rows[500]?.question ?? "");
    }
  });
}

function sum(amounts: readonly string[]): PicoUsd {
  return amounts.reduce((total, amount) => total + parseUsd(amount), 0n);
}
