/** The adapters that a soak loads and drops: good ones of many ranks, and some that must be refused. */
import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { digestOfFiles } from "../../adapter-server/lora/adapter-source.ts";
import type { BaseShape } from "../../sdk/protocol/catalog.ts";
import { buildAdapter } from "../support/adapter.ts";
import { demoAdapters, demoDigest } from "../support/adapter-server.ts";

export type SoakAdapters = {
  /** Folders that can be loaded, below the root. */
  good: readonly string[];
  /** Folders that cannot. */
  bad: readonly string[];
  /** Of the good ones. */
  digests: readonly string[];
};

export async function writeSoakAdapters(root: string, shape: BaseShape): Promise<SoakAdapters> {
  const demo = ["banking-intent", "restaurant-slots", "support-triage", "tone-formal"];
  await cp(demoAdapters, root, { recursive: true });
  const digests = await Promise.all(demo.map(demoDigest));
  const good = [...demo];
  for (let index = 0; index < 8; index++) {
    const files = buildAdapter({ shape, rank: 1 + index, seed: index });
    const name = `made-${index}`;
    await write(root, name, files);
    good.push(name);
    digests.push(digestOfFiles(files));
  }
  const bad = brokenAdapters(shape);
  for (const [name, files] of Object.entries(bad)) await write(root, name, files);
  return { good, bad: [...Object.keys(bad), "not-there"], digests };
}

type Files = ReturnType<typeof buildAdapter>;

function brokenAdapters(shape: BaseShape): Record<string, Files> {
  const good = () => buildAdapter({ shape });
  const notFinite = good();
  // The last number of the last tensor.
  new DataView(notFinite.weights.buffer).setFloat32(notFinite.weights.length - 4, Number.NaN, true);
  const { modules } = shape;
  const other = { ...shape, modules: { ...modules, q_proj: { in: 8, out: 8 } } };
  return {
    "bad-nan": notFinite,
    "bad-cut": { ...good(), weights: good().weights.slice(0, -100) },
    "bad-config": { ...good(), config: Uint8Array.from(Buffer.from("{")) },
    "bad-shape": buildAdapter({ shape: other }),
    "bad-rank": buildAdapter({ shape, rank: 64 }),
    "bad-option": buildAdapter({ shape, config: { bias: "all" } }),
  };
}

async function write(root: string, name: string, { config, weights }: Files): Promise<void> {
  const folder = join(root, name);
  await mkdir(folder);
  await writeFile(join(folder, "adapter_config.json"), config);
  await writeFile(join(folder, "adapter_model.safetensors"), weights);
}
