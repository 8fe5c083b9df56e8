/** Blocks decode to what their layout says; whole files are compared with their goldens by the importer. */
import { expect, test } from "vitest";
import { blockTypes } from "./blocks.ts";

/** 2^-3 as a binary16. */
const eighth = [0x00, 0x30];
const quarter = [0x00, 0x34];

function decode(name: string, bytes: number[]): number[] {
  const type = [...blockTypes.values()].find((each) => each.name === name);
  if (!type) throw new Error(`no type ${name}`);
  expect(bytes.length).toBe(type.bytes);
  const numbers = new Float32Array(type.numbers);
  type.decode(Uint8Array.from(bytes), numbers);
  return [...numbers];
}

test("F16 keeps subnormals, infinities and signs", () => {
  expect(decode("F16", [0x01, 0x00])).toEqual([2 ** -24]);
  expect(decode("F16", [0x00, 0xfc])).toEqual([Number.NEGATIVE_INFINITY]);
  expect(decode("F16", [0x00, 0xc2])).toEqual([-3]);
});

test("BF16 is the upper half of a float32", () => {
  expect(decode("BF16", [0x40, 0xc0])).toEqual([-3]);
});

test("Q4_0 has its zero in the middle", () => {
  const numbers = decode("Q4_0", [...eighth, ...new Array(15).fill(0x88), 0xf0]);
  expect(numbers.slice(0, 15)).toEqual(new Array(15).fill(0));
  expect([numbers[15], numbers[31]]).toEqual([-1, 7 / 8]);
});

test("Q4_1 counts from its least", () => {
  const numbers = decode("Q4_1", [...eighth, ...quarter, 0x1f, ...new Array(15).fill(0)]);
  expect([numbers[0], numbers[16], numbers[1]]).toEqual([15 / 8 + 1 / 4, 1 / 8 + 1 / 4, 1 / 4]);
});

test("Q8_0 is signed", () => {
  const numbers = decode("Q8_0", [...eighth, 0x80, 0x7f, ...new Array(30).fill(0)]);
  expect(numbers.slice(0, 3)).toEqual([-16, 127 / 8, 0]);
});

test("Q4_K takes the scales of its last groups from two places", () => {
  const scales = new Array(12).fill(0);
  scales[0] = 0b10_000011; // group 0: scale 3; group 4: upper bits 2
  scales[4] = 0b01_000101; // group 0: least 5; group 4: upper bits 1
  scales[8] = 0b0111_0001; // group 4: lower bits 1 and 7
  const quants = new Array(128).fill(0);
  quants[0] = 0x2f;
  quants[64] = 0x04;
  const numbers = decode("Q4_K", [...eighth, ...quarter, ...scales, ...quants]);
  expect(numbers[0]).toBe((15 * 3) / 8 - 5 / 4);
  expect(numbers[128]).toBe((4 * 0b100001) / 8 - 0b010111 / 4);
});

test("Q5_K adds a fifth bit for each group", () => {
  const scales = [1, 1, 1, 1, ...new Array(8).fill(0)];
  const high = [0b0101, ...new Array(31).fill(0)];
  const quants = [0x10, ...new Array(127).fill(0)];
  const numbers = decode("Q5_K", [...eighth, ...quarter, ...scales, ...high, ...quants]);
  expect([numbers[0], numbers[32], numbers[64]]).toEqual([2, 1 / 8, 2]);
});

test("Q6_K shares bytes between runs of 32", () => {
  const low = [0xa5, ...new Array(127).fill(0)];
  const high = [0b10_00_00_01, ...new Array(63).fill(0)];
  const scales = new Array(16).fill(1);
  const numbers = decode("Q6_K", [...low, ...high, ...scales, ...eighth]);
  expect([numbers[0], numbers[32], numbers[64], numbers[96]]).toEqual([
    (0b010101 - 32) / 8,
    (0 - 32) / 8,
    (0b001010 - 32) / 8,
    (0b100000 - 32) / 8,
  ]);
});
