/** Snapshots for tests: two projects, models on an emulated upstream, adapters, prices, whatever is added. */
import { hash } from "node:crypto";
import type {
  Adapter,
  ApiKey,
  Measurement,
  Model,
  Price,
  Project,
  Route,
  Snapshot,
} from "../../sdk/protocol/catalog.ts";
import { type KeyId, newId, type Sha256 } from "../../sdk/protocol/ids.ts";

const startOfTime = "2026-01-01T00:00:00.000Z";

export const sha = (text: string): Sha256 => hash("sha256", text) as Sha256;

export function testProject(name: string, more: Partial<Project> = {}): Project {
  return { id: newId("proj"), name, limits: {}, unpriced: "allow", archived: false, ...more };
}

export function testKey(text: string, more: Partial<ApiKey>): ApiKey {
  return {
    id: newId("key") as KeyId,
    hash: sha(text),
    name: text.slice(0, 8),
    role: "project",
    limits: {},
    ...more,
  };
}

export function testModel(id: string, more: Partial<Model> = {}): Model {
  return {
    id,
    upstream: "emulated",
    upstreamModel: id,
    ownedBy: "test",
    createdAt: startOfTime,
    ...more,
  };
}

export const testBase: NonNullable<Model["base"]> = {
  digest: sha("base"),
  shape: {
    family: "llama",
    layers: 1,
    hiddenSize: 8,
    vocabSize: 16,
    modules: { q_proj: { in: 8, out: 8 } },
    trainedAs: [],
  },
};

/** One version for each digest's seed, the first being version 1. */
export function testAdapter(
  base: string,
  name: string,
  project: Project,
  seeds: readonly string[],
  more: Partial<Adapter> = {},
): Adapter {
  return {
    id: newId("adp"),
    base,
    name,
    projectId: project.id,
    shared: false,
    versions: seeds.map((seed, index) => ({
      version: index + 1,
      digest: sha(seed),
      configSha256: sha(`${seed} config`),
      weightsSha256: sha(`${seed} weights`),
      sizeBytes: 1,
      rank: 4,
      targetModules: ["q_proj"],
      baseDigest: testBase.digest,
      lineage: {},
      createdBy: "test",
      createdAt: startOfTime,
    })),
    aliases: { champion: seeds.length },
    createdAt: startOfTime,
    ...more,
  };
}

export function testPrices(model: string, usd: { input: string; output: string }): Price[] {
  return (["input", "output"] as const).map((meter) => ({
    id: newId("price"),
    model,
    meter,
    usdPerToken: usd[meter],
    validFrom: startOfTime,
    recordedAt: startOfTime,
    source: "test",
  }));
}

export function testRoute(name: string, defaultModel: string, more: Partial<Route> = {}): Route {
  return { id: newId("route"), name, defaultModel, fallbacks: [], tasks: [], ...more };
}

export function testMeasurement(
  of: Pick<Measurement, "projectId" | "task" | "model" | "lower"> & Partial<Measurement>,
): Measurement {
  return {
    id: newId("msr"),
    runId: newId("run"),
    datasetDigest: sha("dataset"),
    scorer: "exact",
    n: 100,
    score: Math.min(1, of.lower + 0.05),
    upper: Math.min(1, of.lower + 0.1),
    meanInputTokens: 100,
    meanOutputTokens: 10,
    latencyP50Ms: 50,
    latencyP95Ms: 90,
    measuredAt: "2026-06-01T00:00:00.000Z",
    ...of,
  };
}

export function testSnapshot(more: Partial<Snapshot> = {}): Snapshot {
  return {
    version: 1,
    generatedAt: startOfTime,
    projects: [],
    keys: [],
    models: [],
    adapters: [],
    routes: [],
    prices: [],
    measurements: [],
    ...more,
  };
}
