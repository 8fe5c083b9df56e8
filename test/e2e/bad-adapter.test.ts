/** Adapters that are broken, hostile or made for something else: refused when pushed, and nothing is kept. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import {
  buildAdapter,
  joinSafetensors,
  type TestTensor,
  writeSafetensors,
} from "../support/adapter.ts";
import { call } from "../support/api.ts";
import { expectRefusal, type Refusal, refusingServer } from "../support/refusals.ts";
import { pushForm } from "../support/registry.ts";

const service = refusingServer();
const { send, post } = service;

describe("an adapter that is pushed", () => {
  let shape: BaseShape;
  beforeAll(async () => {
    const found = await call(
      service.server.url,
      service.tenant.key,
      "GET",
      "/api/models/support-tiny",
    );
    shape = (found.body as { base: { shape: BaseShape } }).base.shape;
  });

  const manifest = { base: "support-tiny", name: "broken" };
  const tensorName = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  type Files = ReturnType<typeof buildAdapter>;
  const push = (files: Files, more: object = {}) =>
    send("/api/adapters", { method: "POST", body: pushForm({ ...manifest, ...more }, files) });
  const good = () => buildAdapter({ shape });
  const bytes = (...values: number[]) => Uint8Array.from(values);

  /** The good adapter with its first tensor changed. */
  function withTensor(change: (tensor: TestTensor) => TestTensor): Files {
    const { config, weights } = good();
    const headerBytes = Number(new DataView(weights.buffer).getBigUint64(0, true));
    const header = JSON.parse(
      Buffer.from(weights.subarray(8, 8 + headerBytes)).toString(),
    ) as Record<string, { shape: number[]; data_offsets: [number, number] }>;
    const tensors = Object.entries(header).map(
      ([
        name,
        {
          shape: size,
          data_offsets: [begin, end],
        },
      ]) => ({
        name,
        shape: size,
        values: new Float32Array(
          weights.slice(8 + headerBytes + begin, 8 + headerBytes + end).buffer,
        ),
      }),
    );
    return {
      config,
      weights: writeSafetensors(tensors.map((it) => (it.name === tensorName ? change(it) : it))),
    };
  }

  const broken: [string, () => Files, Refusal][] = [
    [
      "ends in the middle",
      () => ({ ...good(), weights: good().weights.slice(0, -100) }),
      { code: "invalid_adapter", says: /tensor '.*lora_[AB].weight'|bytes/ },
    ],
    [
      "is empty",
      () => ({ ...good(), weights: bytes() }),
      { code: "invalid_adapter", says: "shorter than its 8-byte length field" },
    ],
    [
      "claims a header longer than itself",
      () => ({ ...good(), weights: bytes(255, 255, 255, 255, 255, 255, 255, 127, 0x7b) }),
      { code: "invalid_adapter", says: "header claims 9223372036854775807 bytes" },
    ],
    [
      "has a header that is no JSON",
      () => ({ ...good(), weights: joinSafetensors('{"a": ', bytes()) }),
      { code: "invalid_adapter", says: "header" },
    ],
    [
      "is a pickle",
      () => ({ ...good(), weights: bytes(0x80, 0x02, 0x7d, 0x71, 0x00, 0x2e, 0x2e, 0x2e, 0x2e) }),
      { code: "invalid_adapter", says: "Only safetensors is accepted, because loading a pickle" },
    ],
    [
      "is PyTorch's archive",
      () => ({ ...good(), weights: bytes(0x50, 0x4b, 3, 4, 0, 0, 8, 8, 0, 0, 0, 0) }),
      { code: "invalid_adapter", says: "pickle or an archive" },
    ],
    [
      "has a tensor of a wrong shape",
      () => withTensor((it) => ({ ...it, shape: it.shape.toReversed() })),
      { code: "invalid_adapter", says: `'${tensorName}' has shape` },
    ],
    [
      "holds a NaN",
      () => withTensor((it) => ({ ...it, values: it.values.with(3, Number.NaN) })),
      { code: "invalid_adapter", says: `'${tensorName}' holds a value at index 3` },
    ],
    [
      "holds an infinity",
      () => withTensor((it) => ({ ...it, values: it.values.with(0, Number.NEGATIVE_INFINITY) })),
      { code: "invalid_adapter", says: `'${tensorName}' holds a value at index 0` },
    ],
    [
      "lacks a tensor that its config targets",
      () => withTensor((it) => ({ ...it, name: "another.weight" })),
      { code: "invalid_adapter", says: `'${tensorName}'` },
    ],
    [
      "has integers for weights",
      () => withTensor((it) => ({ ...it, dtype: "I32" })),
      { code: "unsupported_adapter", says: `'${tensorName}' has dtype I32` },
    ],
    [
      "was trained on another base",
      () => buildAdapter({ shape, config: { base_model_name_or_path: "meta-llama/Llama-3.1-8B" } }),
      {
        code: "adapter_base_mismatch",
        param: "base_model_name_or_path",
        says: "'meta-llama/Llama-3.1-8B'",
      },
    ],
    [
      "has more layers than the base",
      () => buildAdapter({ shape: { ...shape, layers: shape.layers + 1 } }),
      { code: "invalid_adapter", says: "layers." },
    ],
    [
      "is of a rank that no slot holds",
      () => buildAdapter({ shape, rank: 512 }),
      { code: "adapter_rank_too_large", says: "rank 512" },
    ],
    [
      "needs what is not served",
      () => buildAdapter({ shape, config: { modules_to_save: ["lm_head"] } }),
      { code: "unsupported_adapter", param: "modules_to_save", says: "modules_to_save" },
    ],
    [
      "is DoRA without its magnitudes",
      () => buildAdapter({ shape, config: { use_dora: true } }),
      { code: "invalid_adapter", says: "lora_magnitude_vector" },
    ],
    [
      "has a config that is no JSON",
      () => ({ ...good(), config: bytes(0x7b, 0x22) }),
      { code: "invalid_adapter", says: "adapter_config.json" },
    ],
    [
      "has a config that runs away",
      () => buildAdapter({ shape, config: { target_modules: "(a+)+$".repeat(400) } }),
      { code: "invalid_adapter", param: "target_modules", says: "target_modules" },
    ],
  ];

  test.each(broken)("and %s is refused, and nothing is stored", async (_, files, refusal) => {
    const before = storedFiles();
    await expectRefusal(await push(files()), refusal);
    expect(storedFiles()).toEqual(before);
    const listed = await call(service.server.url, service.tenant.key, "GET", "/api/adapters");
    expect(listed.body).toMatchObject({ data: [] });
  });

  test.each<[string, object, Refusal]>([
    [
      "a base that is not there",
      { base: "nothing" },
      { code: "model_not_found", param: "base", says: "nothing" },
    ],
    [
      "a base that takes no adapters",
      { base: "dear-model" },
      { code: "adapter_base_mismatch", param: "base", says: "'dear-model'" },
    ],
    [
      "a name that is a path",
      { name: "../x" },
      { code: "invalid_value", param: "manifest.name", says: "lower-case" },
    ],
    [
      "an unknown field",
      { colour: "red" },
      { code: "invalid_value", param: "manifest.colour", says: "'manifest.colour'" },
    ],
    [
      "another project",
      { projectId: "proj_00000000000000000000000000" },
      { code: "not_found", says: "proj_0000" },
    ],
    [
      "all projects",
      { shared: true },
      { code: "permission_denied", param: "manifest.shared", says: "admin" },
    ],
  ])("for %s is refused, and nothing is stored", async (_, more, refusal) => {
    const before = storedFiles();
    await expectRefusal(await push(good(), more), refusal);
    expect(storedFiles()).toEqual(before);
  });

  test("in a form that lacks a file, or in no form, is told which part is missing", async () => {
    const form = pushForm(manifest, good());
    form.delete("adapter_model.safetensors");
    await expectRefusal(await send("/api/adapters", { method: "POST", body: form }), {
      code: "missing_required_parameter",
      param: "adapter_model.safetensors",
      says: "'adapter_model.safetensors'",
    });
    await expectRefusal(await post("/api/adapters", manifest), {
      code: "unsupported_media_type",
      says: "multipart/form-data",
    });
  });

  test("whole is accepted after all those that were not", async () => {
    const response = await push(good(), { name: "whole" });
    expect([response.status, await response.json()]).toMatchObject([
      201,
      { adapter: { name: "whole" }, version: { version: 1 } },
    ]);
  });

  function storedFiles(): string[] {
    const folder = join(service.server.dataDir, "artifacts");
    // The first file that is kept makes the folder.
    if (!existsSync(folder)) return [];
    return readdirSync(folder, { recursive: true, encoding: "utf8" }).sort();
  }
});
