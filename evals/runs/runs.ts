/** Eval runs from request to measurement: begun, carried on in the background, cancelled, taken up again. */
import type { Logger } from "pino";
import type {
  AddMeasurements,
  CandidateResult,
  CreateRun,
  EvalRun,
} from "../../sdk/protocol/admin.ts";
import { createRun } from "../../sdk/protocol/admin.ts";
import { asHubError, HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import {
  newId,
  type ProjectId,
  type RunId,
  runId as runIdSchema,
  sha256,
} from "../../sdk/protocol/ids.ts";
import type { Limits } from "../config.ts";
import type { Datasets } from "../datasets/datasets.ts";
import type { DatasetRow } from "../datasets/jsonl.ts";
import { type Caller, visibleProject } from "../identity.ts";
import type { RegistryClient } from "../registry-client.ts";
import type { RunRequest } from "../schema.ts";
import { type Judge, openJudge, scorerName } from "../scoring/scorers.ts";
import type { AskParts } from "./ask.ts";
import { type Catalog, pinCandidate } from "./candidates.ts";
import { execute } from "./execute.ts";
import type { RunStore } from "./store.ts";

export type RunsParts = AskParts & {
  store: RunStore;
  datasets: Datasets;
  registry: RegistryClient;
  limits: Limits;
  now: () => number;
  log: Pick<Logger, "error">;
};

export type Runs = {
  /**
   * Pins the candidates, checks the references against the scorer, and starts.
   * @throws HubError `permission_denied`, `not_found`, `model_not_found`, `invalid_dataset`, `invalid_value`
   */
  create(caller: Caller, body: unknown): Promise<EvalRun>;
  /** Stops a run; what was answered is kept. @throws HubError `not_found` */
  cancel(caller: Caller, id: string): Promise<EvalRun>;
  /**
   * Takes up an ended run where answers are missing or errored.
   * @throws HubError `not_found`, `permission_denied`, `invalid_value` when there is nothing left to do
   */
  resume(caller: Caller, id: string): Promise<EvalRun>;
  /** Stops all runs and leaves them to be resumed. */
  close(): Promise<void>;
};

type Active = { projectId: ProjectId; controller: AbortController; ended: Promise<void> };

/**
 * One process runs evals: runs that are written down as running when it opens were cut off by the end
 * of an earlier one, and are told as interrupted.
 */
export async function openRuns(parts: RunsParts): Promise<Runs> {
  const { store, limits } = parts;
  const active = new Map<string, Active>();
  for (const id of await store.running()) await store.finish(id, interrupted);

  const start = (run: StartedRun) => {
    const controller = new AbortController();
    const ended = carryOut(run, parts, controller.signal).finally(() => active.delete(run.runId));
    active.set(run.runId, { projectId: run.projectId, controller, ended });
  };

  /** Those that are about to start: a run counts from the moment when it was let in. */
  const entering: { projectId: ProjectId }[] = [];
  const inTurn = async <T>(projectId: ProjectId, begin: () => Promise<T>): Promise<T> => {
    const all = [...active.values(), ...entering];
    const own = all.filter((run) => run.projectId === projectId).length;
    if (all.length >= limits.activeRunsMax || own >= limits.activeRunsPerProjectMax) {
      throw tooManyRuns(own, all.length);
    }
    const entry = { projectId };
    entering.push(entry);
    try {
      return await begin();
    } finally {
      entering.splice(entering.indexOf(entry), 1);
    }
  };
  const tooManyRuns = (own: number, all: number) =>
    new HubError(
      "rate_limit_exceeded",
      `${own} eval runs of this project, and ${all} in all, are running; the limits are ${limits.activeRunsPerProjectMax} and ${limits.activeRunsMax}. Wait for one to end, or cancel one.`,
      { retryAfterMs: 5_000 },
    );

  /** The rows and the judge of a run, the references found fit for the scorer. */
  const prepare = async (request: RunRequest, projectId: ProjectId) => {
    const all = await parts.datasets.rows(request.dataset, projectId);
    const rows = request.limit === undefined ? all : all.slice(0, request.limit);
    const judge = openJudge(request.scorer, limits);
    checkReferences(rows, judge, request);
    return { rows, judge };
  };

  return {
    async create(caller, body) {
      const projectId = payingProject(caller);
      const request = parseOrThrow(createRun, body);
      return inTurn(projectId, async () => {
        const { rows, judge } = await prepare(request, projectId);
        const catalog = await readCatalog(parts.registry, caller.key);
        const candidates = request.candidates.map((candidate, index) =>
          pinCandidate(candidate, { catalog, projectId, param: `candidates[${index}]` }),
        );
        const runId = newId("run", parts.now());
        await store.add({
          id: runId,
          projectId,
          request,
          rows: rows.length,
          createdBy: caller.keyId,
          candidates,
        });
        start({ runId, projectId, request, key: caller.key, rows, judge });
        return store.tell(runId, projectId);
      });
    },

    async cancel(caller, id) {
      const projectId = visibleProject(caller);
      await store.row(id, projectId);
      const run = active.get(id);
      run?.controller.abort(new RunStopped("cancelled"));
      await run?.ended;
      return store.tell(id, projectId);
    },

    async resume(caller, id) {
      const projectId = payingProject(caller);
      const run = await store.tell(id, projectId);
      if (run.status === "done" && run.candidates.every(({ error }) => error === undefined)) {
        throw new HubError(
          "invalid_value",
          `The eval run '${id}' is done; there is nothing to resume.`,
        );
      }
      return inTurn(projectId, async () => {
        const { request } = await store.row(id, projectId);
        const { rows, judge } = await prepare(request, projectId);
        if (active.has(id) || !(await store.reopen(id))) {
          throw new HubError("invalid_value", `The eval run '${id}' is running; cancel it first.`);
        }
        start({ runId: runIdSchema.parse(id), projectId, request, key: caller.key, rows, judge });
        return store.tell(id, projectId);
      });
    },

    async close() {
      for (const { controller } of active.values()) controller.abort(new RunStopped("interrupted"));
      await Promise.all([...active.values()].map(({ ended }) => ended));
    },
  };
}

type StartedRun = {
  runId: RunId;
  projectId: ProjectId;
  request: RunRequest;
  key: string;
  rows: readonly DatasetRow[];
  judge: Judge;
};

/** Runs in the background: whatever happens is written into the run, and nothing is thrown. */
async function carryOut(run: StartedRun, parts: RunsParts, signal: AbortSignal): Promise<void> {
  const { store } = parts;
  try {
    await execute(run, parts, signal);
    await store.finish(run.runId, await conclude(run, parts));
  } catch (error) {
    try {
      await store.finish(run.runId, endOf(error));
      if (!(error instanceof RunStopped))
        parts.log.error({ err: error, run: run.runId }, "eval run failed");
    } catch (cause) {
      // It stays written down as running, and is told as interrupted after the next start.
      parts.log.error(
        { err: cause, run: run.runId },
        "the end of an eval run could not be written down",
      );
    }
  } finally {
    await run.judge.close();
  }
}

type End = { status: "done" | "failed"; error?: string };

/** Hands the measurements to the registry. A run is done when at least one candidate has a score. */
async function conclude(run: StartedRun, { store, registry, now }: RunsParts): Promise<End> {
  const [candidates, results] = await Promise.all([
    store.candidates(run.runId),
    store.results(run.runId),
  ]);
  const measuredAt = new Date(now()).toISOString();
  const fresh = candidates.flatMap((candidate, index) => {
    const result = results[index];
    const wanted = candidate.kind !== "route" && !candidate.measured && result?.error === undefined;
    const measurement = wanted && result ? toMeasurement(run, result, measuredAt) : undefined;
    return measurement ? [{ position: candidate.position, measurement }] : [];
  });
  if (fresh.length > 0) {
    const measurements = fresh.map(({ measurement }) => measurement);
    try {
      await registry.addMeasurements(run.key, { measurements });
    } catch (cause) {
      const { code, message } = asHubError(cause);
      return { status: "failed", error: `the measurements were not recorded: ${code}: ${message}` };
    }
    await store.markMeasured(
      run.runId,
      fresh.map(({ position }) => position),
    );
  }
  if (results.some(({ score, error }) => score !== undefined && error === undefined)) {
    return { status: "done" };
  }
  return {
    status: "failed",
    error: `no candidate has a score: ${results[0]?.error ?? "no answers"}`,
  };
}

type NewMeasurement = AddMeasurements["measurements"][number];

/** `undefined` for a candidate without a score, or whose tokens nobody counted. */
function toMeasurement(
  run: StartedRun,
  result: CandidateResult,
  measuredAt: string,
): NewMeasurement | undefined {
  const { score, lower, upper, meanInputTokens, meanOutputTokens, latencyP50Ms, latencyP95Ms } =
    result;
  if (score === undefined || lower === undefined || upper === undefined) return undefined;
  if (meanInputTokens === undefined || meanOutputTokens === undefined) return undefined;
  if (latencyP50Ms === undefined || latencyP95Ms === undefined) return undefined;
  return {
    runId: run.runId,
    projectId: run.projectId,
    task: run.request.task,
    datasetDigest: sha256.parse(run.request.dataset),
    scorer: scorerName(run.request.scorer),
    model: result.model ?? result.candidate,
    ...(result.adapterDigest === undefined ? {} : { adapterDigest: result.adapterDigest }),
    n: result.n,
    score,
    lower,
    upper,
    // A mean over the priced rows only would make a model look cheaper than it is.
    ...(result.unpriced > 0 || result.meanCostUsd === undefined
      ? {}
      : { meanCostUsd: result.meanCostUsd }),
    meanInputTokens,
    meanOutputTokens,
    latencyP50Ms,
    latencyP95Ms,
    measuredAt,
  };
}

/** A run makes requests that somebody pays for, and an admin's key belongs to no project. */
function payingProject(caller: Caller): ProjectId {
  const projectId = visibleProject(caller);
  if (projectId !== undefined) return projectId;
  throw new HubError(
    "permission_denied",
    "An eval run's requests are billed to a project, and this key belongs to none. Use a project's key.",
  );
}

async function readCatalog(registry: RegistryClient, key: string): Promise<Catalog> {
  const [adapters, models] = await Promise.all([registry.adapters(key), registry.models(key)]);
  return { adapters, modelIds: new Set(models.map(({ id }) => id)) };
}

function checkReferences(rows: readonly DatasetRow[], judge: Judge, request: CreateRun): void {
  for (const [index, { reference }] of rows.entries()) {
    const why = judge.refuses(reference);
    if (why === undefined) continue;
    throw new HubError(
      "invalid_dataset",
      `Row ${index} of the dataset (counted from 0) does not fit the scorer '${request.scorer.type}': ${why}.`,
      { param: "scorer", details: { row: index } },
    );
  }
}

function endOf(error: unknown): End {
  if (error instanceof RunStopped) {
    return error.reason === "cancelled" ? cancelled : interrupted;
  }
  return { status: "failed", error: `${asHubError(error).code}: ${asHubError(error).message}` };
}

class RunStopped extends Error {
  readonly reason: "cancelled" | "interrupted";
  constructor(reason: "cancelled" | "interrupted") {
    super(reason);
    this.reason = reason;
  }
}

const cancelled: End = { status: "failed", error: "cancelled" };
const interrupted: End = {
  status: "failed",
  error:
    "interrupted: the server stopped during the run; resume it to ask the rows that are missing",
};
