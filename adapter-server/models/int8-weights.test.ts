/** Which processors multiply unsigned by signed bytes exactly. */
import { expect, test } from "vitest";
import { int8WeightTypeOf } from "./int8-weights.ts";

test.each([
  ["x64", "sse2 avx2 avx512_vnni amx_int8", "int8"],
  ["x64", "avx2 avx_vnni", "int8"],
  ["x64", "sse2 avx avx2 fma", "uint8"],
  ["x64", "avx2 avx512f avx512bw", "uint8"],
  ["x64", undefined, "uint8"],
  ["arm64", undefined, "int8"],
] as const)("%s with %s stores %s", (architecture, flags, type) => {
  expect(int8WeightTypeOf(architecture, flags)).toBe(type);
});
