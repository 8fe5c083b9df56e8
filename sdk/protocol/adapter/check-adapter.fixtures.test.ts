/** Runs the checks over the shared collection of PEFT adapters, valid and hostile, where it is present. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { BaseShape } from "../catalog.ts";
import { HubError } from "../errors.ts";
import { type CheckedAdapter, checkAdapter } from "./check-adapter.ts";
import { adapterDigest } from "./digest.ts";
import { parseSafetensors, readTensor } from "./safetensors.ts";

const shared = fileURLToPath(new URL("../../../../shared/fixtures/", import.meta.url));
const present = existsSync(shared);
const families = `${shared}families/`;

type Expectation = {
  base: string;
  input: string;
  serve: "exact" | "refuse";
  also_ok?: ("exact" | "refuse")[];
  why: string;
  modules?: Record<string, { r: number; scaling: number }>;
};

describe.skipIf(!present)("shared adapters (skipped where ../shared is absent)", () => {
  for (const folder of present ? caseFolders() : []) {
    const expected = readJson<Expectation>(`${families}${folder}/expect.json`);
    if (expected.input !== "adapter") continue;
    // The collection is for servers that know plain LoRA alone.
    const isServed = folder === "adapters/llama-gqa/dora";
    const outcomes = isServed ? ["exact"] : [expected.serve, ...(expected.also_ok ?? [])];
    test(`${folder}: ${outcomes.join(" or ")}, ${expected.why}`, () => {
      const outcome = check(
        `${families}${folder}/adapter/`,
        shapeOf(`${families}${expected.base}/`),
      );
      if (outcome instanceof HubError) {
        expect(outcomes, outcome.message).toContain("refuse");
        expect(outcome.status).toBe(400);
      } else {
        expect(outcomes).toContain("exact");
        if (expected.modules) expect(modules(outcome)).toEqual(closeTo(expected.modules));
      }
    });
  }

  for (const name of present ? readdirSync(`${shared}tiny/adapters`) : []) {
    test(`the trained adapter ${name} is accepted over its own base only`, () => {
      const folder = `${shared}tiny/adapters/${name}/`;
      const checked = check(folder, shapeOf(`${shared}tiny/base/`));
      if (checked instanceof HubError) throw checked;
      expect(checked.layers).toHaveLength(8);
      expect(check(folder, shapeOf(`${families}models/llama-gqa/`))).toBeInstanceOf(HubError);
    });
  }

  test("one parser reads base checkpoints too", () => {
    const bytes = readFileSync(`${families}models/llama-gqa/model.safetensors`);
    const file = parseSafetensors(bytes, { errorCode: "unsupported_model" });
    const embedding = file.tensors.get("model.embed_tokens.weight");
    expect(embedding?.shape).toEqual([640, 128]);
    if (embedding) expect(readTensor(bytes, embedding)).toHaveLength(640 * 128);
  });

  test("the digest depends on both files", () => {
    const hash = (text: string) => createHash("sha256").update(text).digest("hex");
    const one = adapterDigest({ configSha256: hash("a"), weightsSha256: hash("b") }, hash);
    const other = adapterDigest({ configSha256: hash("b"), weightsSha256: hash("a") }, hash);
    expect(one).not.toBe(other);
  });
});

function caseFolders(): string[] {
  const broken = readdirSync(`${families}broken`).map((name) => `broken/${name}`);
  const adapters = readdirSync(`${families}adapters`).flatMap((model) =>
    readdirSync(`${families}adapters/${model}`).map((name) => `adapters/${model}/${name}`),
  );
  return [...broken, ...adapters].filter((name) => existsSync(`${families}${name}/expect.json`));
}

/** Absent files count as empty ones, as they would in an upload. */
function check(folder: string, shape: BaseShape): CheckedAdapter | HubError {
  const read = (name: string) =>
    existsSync(folder + name) ? readFileSync(folder + name) : new Uint8Array(0);
  try {
    return checkAdapter({
      config: read("adapter_config.json"),
      weights: read("adapter_model.safetensors"),
      shape,
      rankMax: 64,
    });
  } catch (error) {
    if (error instanceof HubError) return error;
    throw error;
  }
}

function modules(adapter: CheckedAdapter): Record<string, { r: number; scaling: number }> {
  const parent = (module: string) => (/^(q|k|v|o)_/.test(module) ? "self_attn" : "mlp");
  return Object.fromEntries(
    adapter.layers.flatMap((pairs, layer) =>
      Object.entries(pairs).map(([module, { rank, scaling }]) => [
        `model.layers.${layer}.${parent(module)}.${module}`,
        { r: rank, scaling },
      ]),
    ),
  );
}

function closeTo(modules: Record<string, { r: number; scaling: number }>) {
  return Object.fromEntries(
    Object.entries(modules).map(([path, { r, scaling }]) => [
      path,
      { r, scaling: expect.closeTo(scaling, 10) },
    ]),
  );
}

function shapeOf(modelFolder: string): BaseShape {
  const config = readJson<Record<string, number>>(`${modelFolder}config.json`);
  const hidden = config.hidden_size ?? 0;
  const heads = config.num_attention_heads ?? 0;
  const headDim = config.head_dim ?? hidden / heads;
  const query = heads * headDim;
  const keyValue = (config.num_key_value_heads ?? heads) * headDim;
  const mlp = config.intermediate_size ?? 0;
  return {
    family: String(config.model_type),
    layers: config.num_hidden_layers ?? 0,
    hiddenSize: hidden,
    vocabSize: config.vocab_size ?? 0,
    modules: {
      q_proj: { in: hidden, out: query },
      k_proj: { in: hidden, out: keyValue },
      v_proj: { in: hidden, out: keyValue },
      o_proj: { in: query, out: hidden },
      gate_proj: { in: hidden, out: mlp },
      up_proj: { in: hidden, out: mlp },
      down_proj: { in: mlp, out: hidden },
    },
    trainedAs: [],
  };
}

function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8"));
}
