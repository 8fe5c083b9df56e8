/** How int8 weights are stored for this processor's kernels, which do not all compute products of bytes exactly. */
import { readFileSync } from "node:fs";
import { arch, platform } from "node:os";

/** Signed, or unsigned with zero point 128; the numbers are the same. */
export type Int8WeightType = "int8" | "uint8";

/**
 * x64 processors without VNNI or AMX add two products of an unsigned and a signed byte in 16 bits, and cut off what does not
 * fit (`vpmaddubsw`): large activations then meet wrong products. Their kernel for two unsigned bytes is exact, and slower.
 * @param flags the processor's, as Linux names them; where they are not known the exact kernel is taken
 */
export function int8WeightTypeOf(architecture: string, flags: string | undefined): Int8WeightType {
  if (architecture !== "x64") return "int8";
  return flags !== undefined && /\b(avx512_vnni|avx_vnni|amx_int8)\b/.test(flags)
    ? "int8"
    : "uint8";
}

/** This processor's. Part of an import's name: one that came from another machine is made anew. */
export const int8WeightType = int8WeightTypeOf(arch(), processorFlags());

function processorFlags(): string | undefined {
  if (platform() !== "linux") return undefined;
  try {
    return /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  } catch {
    return undefined;
  }
}
