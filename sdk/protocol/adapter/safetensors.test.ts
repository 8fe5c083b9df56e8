import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { joinSafetensors, writeSafetensors } from "../../../test/support/adapter.ts";
import { HubError } from "../errors.ts";
import {
  parseSafetensors,
  parseSafetensorsHeader,
  readTensor,
  type TensorEntry,
} from "./safetensors.ts";

const f32 = (name: string, shape: number[], values: number[]) => ({
  name,
  shape,
  values: Float32Array.from(values),
});
const valid = writeSafetensors([f32("b", [2, 2], [1, 2, 3, 4]), f32("a", [1], [5])]);

describe("parseSafetensors", () => {
  test("gives each tensor its place in the file", () => {
    const file = parseSafetensors(valid);
    expect([...file.tensors.keys()]).toEqual(["b", "a"]);
    const b = file.tensors.get("b") as TensorEntry;
    expect(readTensor(valid, b)).toEqual(Float32Array.of(1, 2, 3, 4));
  });

  test("a header alone can be read before the rest of a large file", () => {
    const headerBytes = Number(new DataView(valid.buffer).getBigUint64(0, true));
    const header = parseSafetensorsHeader(valid.subarray(8, 8 + headerBytes), valid.length);
    expect(header.tensors).toEqual(parseSafetensors(valid).tensors);
  });

  test.each([
    ["a hole", '{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', "unused bytes"],
    [
      "bytes left",
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
      "after its last tensor",
    ],
    ["bytes missing", '{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}', "before its last"],
    [
      "an overlap",
      '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
      "overlapping",
    ],
    ["a wrong size", '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2]}}', "needs 4"],
    [
      "a product beyond 64 bits",
      '{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
      "needs 18446744073709551616",
    ],
    ["reversed offsets", '{"a":{"dtype":"U8","shape":[0],"data_offsets":[2,0]}}', "reversed"],
    ["an unknown dtype", '{"a":{"dtype":"F7","shape":[2],"data_offsets":[0,2]}}', "dtype"],
    [
      "an inherited name as dtype",
      '{"a":{"dtype":"toString","shape":[2],"data_offsets":[0,2]}}',
      "dtype",
    ],
    [
      "a further field",
      '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":1}}',
      "Unrecognized",
    ],
    [
      "a doubled key",
      '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
      "twice",
    ],
    [
      "metadata of numbers",
      '{"__metadata__":{"x":1},"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}',
      "__metadata__",
    ],
    ["deep nesting", '{"a":[[[[]]]]}', "deeper"],
    ["an array", "[]", "start with '{'"],
  ])("refuses %s", (_, header, reason) => {
    expect(() => parseSafetensors(joinSafetensors(header, new Uint8Array(2)))).toThrow(reason);
  });

  test("refuses a length beyond the file without trusting it for an allocation", () => {
    const hostile = new Uint8Array(32).fill(0xff);
    expect(() => parseSafetensors(hostile)).toThrow("claims 18446744073709551615 bytes");
  });

  test("says that a pickle is a pickle", () => {
    expect(() =>
      parseSafetensors(Uint8Array.of(0x80, 2, 0x63, 0x6f, 0x73, 0x0a, 0, 0, 0, 0)),
    ).toThrow("pickle");
  });

  test("throws nothing but HubError, whatever is cut off or changed", () => {
    const mutation = fc.array(
      fc.tuple(fc.nat(valid.length - 1), fc.integer({ min: 0, max: 255 })),
      {
        maxLength: 6,
      },
    );
    fc.assert(
      fc.property(mutation, fc.nat(valid.length), (changes, length) => {
        const bytes = valid.slice();
        for (const [at, value] of changes) bytes[at] = value;
        onlyHubErrors(() => parseSafetensors(bytes));
        onlyHubErrors(() => parseSafetensors(bytes.subarray(0, length)));
      }),
      { numRuns: 2000 },
    );
  });

  test("throws nothing but HubError for any JSON as header", () => {
    const entry = fc.record(
      {
        dtype: fc.constantFrom<unknown>("F32", "U8", "BF16", "x", 1, null),
        shape: fc.oneof(fc.array(fc.integer()), fc.jsonValue()),
        data_offsets: fc.oneof(fc.tuple(fc.integer(), fc.integer()), fc.jsonValue()),
      },
      { requiredKeys: [] },
    );
    const name = fc.oneof(fc.string(), fc.constantFrom("__proto__", "constructor", "__metadata__"));
    const header = fc.oneof(fc.dictionary(name, entry), fc.jsonValue());
    fc.assert(
      fc.property(header, fc.uint8Array({ maxLength: 16 }), (value, data) => {
        onlyHubErrors(() => parseSafetensors(joinSafetensors(JSON.stringify(value), data)));
      }),
      { numRuns: 2000 },
    );
  });
});

describe("readTensor", () => {
  const entry = (dtype: "F16" | "BF16" | "F32" | "I8", end: number, begin = 0): TensorEntry => ({
    name: "t",
    dtype,
    shape: [],
    begin,
    end,
  });

  test("decodes half precision, subnormal and special values included", () => {
    const halves = Uint16Array.of(
      0x3c00,
      0xc000,
      0x0001,
      0x03ff,
      0x0400,
      0x7bff,
      0x7c00,
      0xfc00,
      0x8000,
    );
    const values = readTensor(new Uint8Array(halves.buffer), entry("F16", halves.byteLength));
    expect([...values]).toEqual([
      1,
      -2,
      2 ** -24,
      1023 * 2 ** -24,
      2 ** -14,
      65504,
      Infinity,
      -Infinity,
      -0,
    ]);
    const nan = Uint16Array.of(0x7e00);
    expect(readTensor(new Uint8Array(nan.buffer), entry("F16", 2))[0]).toBeNaN();
  });

  test("decodes bfloat16 as the upper half of a float32", () => {
    const halves = Uint16Array.of(0x3f80, 0xc000, 0x7f80, 0x4049);
    const values = readTensor(new Uint8Array(halves.buffer), entry("BF16", halves.byteLength));
    expect([...values]).toEqual([1, -2, Infinity, 3.140625]);
  });

  test("reads from any byte offset, of Node's buffers too, and shares no memory with the file", () => {
    const bytes = Buffer.concat([Buffer.of(0), Buffer.from(Float32Array.of(1.5, -2).buffer)]);
    const values = readTensor(bytes, entry("F32", 9, 1));
    bytes.fill(0);
    expect([...values]).toEqual([1.5, -2]);
  });

  test("refuses what is no floating-point number we compute with", () => {
    expect(() => readTensor(new Uint8Array(4), entry("I8", 4))).toThrow("dtype I8");
  });
});

function onlyHubErrors(action: () => unknown): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
  }
}
