/** What the processor can do, as far as it matters to products of matrices. Known on Linux only. */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";

/** Whether it multiplies tiles of int8, which makes rows of a batch nearly free. */
export function hasAmx(): boolean {
  return flags.has("amx_int8");
}

/** Its name, and the instructions that kernels choose by. */
export function describeProcessor(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const known = named.filter(([flag]) => flags.has(flag)).map(([, name]) => name);
  return known.length === 0 ? model : `${model} (${known.join(", ")})`;
}

const named = [
  ["avx2", "AVX2"],
  ["avx512f", "AVX-512"],
  ["avx_vnni", "AVX-VNNI"],
  ["avx512_vnni", "AVX-512 VNNI"],
  ["amx_int8", "AMX int8"],
] as const;

const flags: ReadonlySet<string> = readFlags();

function readFlags(): Set<string> {
  try {
    const line = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
    return new Set(line.trim().split(" "));
  } catch {
    return new Set();
  }
}
