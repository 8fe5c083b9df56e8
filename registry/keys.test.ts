import { expect, test } from "vitest";
import { generateKey, hashKey, isGenerated } from "./keys.ts";

test("a key says what it is for and carries 32 random characters and a checksum", () => {
  expect(generateKey("project")).toMatch(/^sk-sy-[0-9A-Za-z]{38}$/);
  expect(generateKey("admin")).toMatch(/^sk-sy-admin-[0-9A-Za-z]{38}$/);
  expect(generateKey("project")).not.toBe(generateKey("project"));
});

test("the checksum is CRC-32 in base 62, so that others can recompute it", () => {
  // crc32("sk-sy-" + 32 zeros) = 1 925 647 592, computed with Python's zlib.
  expect(generateKey("project", () => 0).slice(-6)).toBe("26Jou8");
});

test("a key that was made here is known by its checksum, and no other is taken for one", () => {
  for (const role of ["admin", "project"] as const) {
    const key = generateKey(role);
    expect(isGenerated(key)).toBe(true);
    const another = key.endsWith("0") ? "1" : "0";
    for (const text of [key.slice(0, -1) + another, key.slice(1), `${key}0`, "a-key-of-my-own"]) {
      expect(isGenerated(text), text).toBe(false);
    }
  }
});

test("the hash is SHA-256 in hex", () => {
  expect(hashKey("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});
