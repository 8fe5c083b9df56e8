/** What a simulation found: how much was done, how full the engine was, and who waited how long. */
import type { SchedulerStats } from "../engine/scheduler-stats.ts";
import type { SimulationOptions } from "./options.ts";
import { floodingTenant } from "./workload.ts";

/** What became of one sequence. */
export type RequestRecord = {
  tenant: string;
  adapter: number | undefined;
  promptTokens: number;
  arrivedAtMs: number;
  /** When its first step began. */
  startedAtMs?: number;
  firstTokenAtMs?: number;
  lastTokenAtMs?: number;
  /** Between its tokens. */
  gapsMs: number[];
  /** The code of its error. */
  refused?: string;
};

export type Percentiles = { p50: number; p95: number; p99: number; max: number };

export type SimulationGroup = {
  name: string;
  requests: number;
  refused: number;
  outputTokensPerSecond: number;
  /** Until the first step. Absent where nobody got that far. */
  waitMs: Percentiles | undefined;
  firstTokenMs: Percentiles | undefined;
  interTokenMs: Percentiles | undefined;
};

export type SimulationReport = {
  /** From the first arrival's clock to the last token. */
  seconds: number;
  requests: number;
  /** By the code that they heard. */
  refused: Record<string, number>;
  outputTokensPerSecond: number;
  /** Tokens of prompts that were computed or found. */
  promptTokensPerSecond: number;
  /** Of the prompts' tokens, the share that was found in the prefix cache. */
  prefixHitShare: number;
  /** Of the time, the share in which a step was computed. */
  busyShare: number;
  steps: number;
  /** Of a step. */
  rowsMean: number;
  tokensMean: number;
  /** Of the KV cache's blocks, the share in use. */
  cacheShareMean: number;
  cacheShareMax: number;
  preemptions: number;
  /** Adapters that were copied into a slot. */
  loads: number;
  groups: SimulationGroup[];
  /** Means over equal parts of the time. */
  timeline: { partMs: number; waiting: number[]; running: number[] };
};

type Timeline = readonly { atMs: number; waiting: number; running: number; blocksUsed: number }[];

export function summarize(found: {
  options: SimulationOptions;
  records: readonly RequestRecord[];
  timeline: Timeline;
  totals: {
    steps: number;
    rows: number;
    tokens: number;
    loads: number;
    busyMs: number;
    endMs: number;
  };
  stats: SchedulerStats;
}): SimulationReport {
  const { options, records, timeline, totals, stats } = found;
  const seconds = totals.endMs / 1000;
  const perSecond = (count: number) => (seconds === 0 ? 0 : count / seconds);
  const started = records.filter((record) => record.firstTokenAtMs !== undefined);
  const refused: Record<string, number> = {};
  for (const { refused: code } of records) if (code) refused[code] = (refused[code] ?? 0) + 1;
  const cacheShares = timeline.map(({ blocksUsed }) => blocksUsed / stats.blocksTotal);
  return {
    seconds,
    requests: records.length,
    refused,
    outputTokensPerSecond: perSecond(tokensOf(records)),
    promptTokensPerSecond: perSecond(started.reduce((sum, one) => sum + one.promptTokens, 0)),
    prefixHitShare: share(stats.prefixTokensHit, stats.prefixTokensQueried),
    busyShare: share(totals.busyMs, totals.endMs),
    steps: totals.steps,
    rowsMean: share(totals.rows, totals.steps),
    tokensMean: share(totals.tokens, totals.steps),
    cacheShareMean: meanOf(cacheShares),
    cacheShareMax: cacheShares.reduce((most, one) => Math.max(most, one), 0),
    preemptions: stats.preemptions,
    loads: totals.loads,
    groups: groupsOf(records, options).map(([name, members]) => ({
      name,
      requests: members.length,
      refused: members.filter((record) => record.refused !== undefined).length,
      outputTokensPerSecond: perSecond(tokensOf(members)),
      waitMs: percentiles(members.flatMap(since("startedAtMs"))),
      firstTokenMs: percentiles(members.flatMap(since("firstTokenAtMs"))),
      interTokenMs: percentiles(members.flatMap(({ gapsMs }) => gapsMs)),
    })),
    timeline: partsOf(timeline, totals.endMs),
  };
}

/** All; tenants, where one floods or they are few; adapters by whether they are asked for often enough to keep a slot. */
function groupsOf(
  records: readonly RequestRecord[],
  { tenants, floodPerSecond, adapters, engine }: SimulationOptions,
): [string, RequestRecord[]][] {
  const groups = new Map<string, RequestRecord[]>([["all", [...records]]]);
  const enter = (name: string, record: RequestRecord) => {
    const group = groups.get(name);
    if (group) group.push(record);
    else groups.set(name, [record]);
  };
  const isApart = tenants <= tenantsShown;
  for (const record of records) {
    if (tenants === 1 && floodPerSecond === 0) break;
    enter(isApart || record.tenant === floodingTenant ? record.tenant : "other tenants", record);
  }
  for (const record of records) {
    if (record.adapter === undefined || adapters <= engine.slots) continue;
    const isHot = record.adapter <= engine.slots;
    enter(isHot ? `the ${engine.slots} hottest adapters` : "all other adapters", record);
  }
  return [...groups].sort(([a], [b]) => (a === "all" ? -1 : b === "all" ? 1 : 0));
}

function since(field: "startedAtMs" | "firstTokenAtMs"): (record: RequestRecord) => number[] {
  return (record) => {
    const atMs = record[field];
    return atMs === undefined ? [] : [atMs - record.arrivedAtMs];
  };
}

function tokensOf(records: readonly RequestRecord[]): number {
  let tokens = 0;
  for (const { firstTokenAtMs, gapsMs } of records) {
    if (firstTokenAtMs !== undefined) tokens += 1 + gapsMs.length;
  }
  return tokens;
}

/** By nearest rank. */
function percentiles(values: number[]): Percentiles | undefined {
  if (values.length === 0) return undefined;
  const sorted = Float64Array.from(values).sort();
  const at = (part: number) => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!;
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) };
}

function partsOf(timeline: Timeline, endMs: number): SimulationReport["timeline"] {
  const parts = Array.from({ length: partsShown }, () => ({ steps: 0, waiting: 0, running: 0 }));
  for (const { atMs, waiting, running } of timeline) {
    const part = parts[Math.min(partsShown - 1, Math.floor((atMs / endMs) * partsShown))]!;
    part.steps++;
    part.waiting += waiting;
    part.running += running;
  }
  return {
    partMs: endMs / partsShown,
    waiting: parts.map(({ steps, waiting }) => share(waiting, steps)),
    running: parts.map(({ steps, running }) => share(running, steps)),
  };
}

function meanOf(values: readonly number[]): number {
  return share(
    values.reduce((sum, value) => sum + value, 0),
    values.length,
  );
}

function share(part: number, whole: number): number {
  return whole === 0 ? 0 : part / whole;
}

const tenantsShown = 8;
const partsShown = 60;
