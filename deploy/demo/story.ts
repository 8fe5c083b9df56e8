/** The demo's story, told against any server: every line on the screen is the server's own answer. */
import type OpenAI from "openai";
import pc from "picocolors";
import { Switchyard } from "../../sdk/client/index.ts";
import type { CandidateResult } from "../../sdk/protocol/admin.ts";
import { formatUsd, type PicoUsd, parseUsd, showUsd } from "../../sdk/protocol/money.ts";
import { showProgress } from "../all-in-one/progress.ts";
import type { DemoRow } from "./emulated-provider.ts";

export type DemoServer = {
  url: string;
  adminKey: string;
  /** Absent: what the server's route `auto` takes by default. */
  dearModel: string | undefined;
  close(): Promise<void>;
};

export type StoryOptions = {
  server: DemoServer;
  dataset: string;
  adapterFolder: string;
  rows: readonly DemoRow[];
  say: (line: string) => void;
};

const task = "support-triage";
const base = "support-tiny";
const REQUESTS = 40;
const EVAL_ROWS = 120;
const QUALITY_FLOOR = 0.85;

/** @throws Error when the story does not come out as told */
export async function tellStory({
  server,
  dataset,
  adapterFolder,
  rows,
  say,
}: StoryOptions): Promise<void> {
  const admin = new Switchyard({
    baseURL: server.url,
    adminKey: server.adminKey,
    apiKey: server.adminKey,
  });
  const dearModel = server.dearModel ?? (await admin.routes.get("auto")).defaultModel;
  const chapter = chapters(say);

  chapter("A team, its key, and a route", [
    server.dearModel
      ? `The dear model is ${pc.bold("an emulator")} on this machine, standing where a provider's API would be.`
      : `The dear model is ${dearModel}.`,
  ]);
  const project = await admin.projects.create({
    name: `demo ${new Date().toISOString()}`,
    team: "support",
  });
  const { key } = await admin.keys.create({ name: "demo", projectId: project.id });
  const ours = new Switchyard({ baseURL: server.url, apiKey: key, adminKey: key });
  const candidate = `${base}:${task}`;
  await admin.routes.put("auto", {
    projectId: project.id,
    defaultModel: dearModel,
    fallbacks: [],
    tasks: [
      {
        task,
        rules: [{ startsWith: "Triage this message:" }],
        candidates: [candidate, dearModel],
        qualityFloor: QUALITY_FLOOR,
      },
    ],
  });
  say(
    `  project ${project.id}; ${pc.cyan('model: "auto"')} goes to ${dearModel} until something cheaper is measured to be good enough`,
  );

  chapter(`${REQUESTS} requests on "auto" with the official OpenAI client`);
  const before = await sendRequests(ours.openai, rows.slice(500, 500 + REQUESTS), say);

  chapter("An ML engineer pushes an adapter");
  const { adapter, version } = await ours.adapters.push(adapterFolder, {
    base,
    name: task,
    alias: "candidate",
  });
  say(
    `  ${base}:${adapter.name}@${version.version}  ${(version.sizeBytes / 1024).toFixed(0)} KiB, rank ${version.rank}, sha256 ${version.digest.slice(0, 12)}…`,
  );

  chapter(`Both answer the same ${EVAL_ROWS} rows`);
  const progress = showProgress();
  const pushed = await ours.datasets.push(dataset, { name: `${task} test` });
  const run = await ours.evals.wait(
    (
      await ours.evals.create({
        task,
        dataset: pushed.sha256,
        candidates: [`${candidate}@${version.version}`, dearModel],
        scorer: { type: "exact" },
        limit: EVAL_ROWS,
      })
    ).id,
    {
      onProgress: ({ answered, rows: count, candidates }) =>
        progress.show(
          `  measuring: ${Math.floor((100 * answered) / (count * candidates.length))} %`,
        ),
    },
  );
  progress.end();
  if (run.status !== "done") throw new Error(`the eval run ${run.id} failed: ${run.error}`);
  for (const result of run.candidates) say(describeCandidate(result));

  chapter("Good enough, so it is promoted");
  await ours.adapters.promote(adapter.id, { version: version.version, reason: `eval ${run.id}` });
  const decision = await ours.routes.explain({
    model: "auto",
    messages: [{ role: "user", content: rows[0]?.question ?? "" }],
  });
  say(
    `  the route now chooses ${pc.green(decision.attempts[0] ?? "nothing")}: the cheapest whose lower bound clears ${percent(QUALITY_FLOOR)}`,
  );

  chapter(`The same ${REQUESTS} requests again, nothing changed in the application`);
  const after = await sendRequests(ours.openai, rows.slice(500, 500 + REQUESTS), say);

  chapter("What finance sees");
  const { data } = await ours.reports.costs({ groupBy: ["model", "adapter"] });
  for (const row of data) {
    const name = row.adapter === null ? String(row.model) : `${row.model}:${row.adapter}`;
    say(
      `  ${name.padEnd(30)} ${String(row.requests).padStart(4)} requests  ${showUsd(parseUsd(row.cost_usd), 8).padStart(14)}`,
    );
  }
  const saved = before - after;
  say(
    `\n  ${REQUESTS} requests cost ${showUsd(before, 8)} before and ${showUsd(after, 8)} after: ${pc.green(pc.bold(`${percent(Number((saved * 10_000n) / before) / 10_000)} saved`))}, at a quality that was measured.`,
  );
  if (after >= before) throw new Error("the traffic did not get cheaper");
}

/** @returns what they cost together, as the server tells it with each answer */
async function sendRequests(
  client: OpenAI,
  rows: readonly DemoRow[],
  say: (line: string) => void,
): Promise<PicoUsd> {
  const answered = new Map<string, number>();
  let right = 0;
  let cost = 0n;
  for (const { question, reference } of rows) {
    const { data, response } = await client.chat.completions
      .create({ model: "auto", messages: [{ role: "user", content: question }], max_tokens: 64 })
      .withResponse();
    const model = response.headers.get("x-switchyard-model") ?? data.model;
    answered.set(model, (answered.get(model) ?? 0) + 1);
    if (data.choices[0]?.message.content?.trim() === reference) right++;
    const told = response.headers.get("x-switchyard-cost-usd");
    if (told === null) throw new Error(`the request to ${model} has no price`);
    cost += parseUsd(told);
  }
  for (const [model, count] of answered) say(`  ${pc.cyan(model)} answered ${count}`);
  say(
    `  ${right} of ${rows.length} right, ${showUsd(cost, 8)} in all (exactly $${formatUsd(cost)})`,
  );
  return cost;
}

/** A bar from 0 to 100 %, with the interval drawn on it. */
function describeCandidate({
  candidate,
  score,
  lower,
  upper,
  meanCostUsd,
  latencyP50Ms,
  n,
}: CandidateResult): string {
  if (score === undefined || lower === undefined || upper === undefined)
    return `  ${candidate}: not measured`;
  const width = 40;
  const bar = Array.from({ length: width }, (_, index) => {
    const at = (index + 0.5) / width;
    return at < lower ? "█" : at <= upper ? "▒" : "·";
  }).join("");
  const cost =
    meanCostUsd === undefined ? "unpriced" : `${showUsd(parseUsd(meanCostUsd), 9)} a request`;
  return `  ${candidate.padEnd(30)} ${bar} ${percent(score)} [${percent(lower)}, ${percent(upper)}] n=${n}  ${cost}  ${latencyP50Ms?.toFixed(0)} ms`;
}

function chapters(say: (line: string) => void): (title: string, lines?: string[]) => void {
  let number = 0;
  return (title, lines = []) => {
    number++;
    say(`\n${pc.bold(`${number}. ${title}`)}`);
    for (const line of lines) say(`  ${line}`);
  };
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
