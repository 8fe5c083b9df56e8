import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { MasterKeys } from "./master-keys.ts";
import { seal, unseal } from "./seal.ts";

const place = { id: "key-1", projectId: "proj_1" };

test("sealed bytes open with the same key in the same place, and with no bit changed", () => {
  const key = randomBytes(32);
  const bytes = Buffer.from("what was said");
  const sealed = seal(bytes, key, "here");
  expect(unseal(sealed, key, "here")).toEqual(bytes);
  expect(sealed.includes(bytes)).toBe(false);
  expect(seal(bytes, key, "here")).not.toEqual(sealed);
  expect(unseal(sealed, randomBytes(32), "here")).toBeUndefined();
  expect(unseal(sealed, key, "there")).toBeUndefined();
  for (let at = 0; at < sealed.length; at++) {
    const changed = Buffer.from(sealed);
    changed[at] = (changed[at] ?? 0) ^ 1;
    expect(unseal(changed, key, "here"), `byte ${at}`).toBeUndefined();
    expect(unseal(sealed.subarray(0, at), key, "here"), `${at} bytes`).toBeUndefined();
  }
});

test("a data key opens with the master key that sealed it, by its name, for its own project", () => {
  const [old, present] = [randomBytes(32), randomBytes(32)].map((key) => key.toString("base64"));
  const before = new MasterKeys(`2025:${old}`);
  const dataKey = randomBytes(32);
  const wrapped = before.wrap(dataKey, place);
  expect(wrapped.masterKeyId).toBe("2025");
  const rotated = new MasterKeys(`2026:${present}, 2025:${old}`);
  expect(rotated.unwrap(wrapped, place)).toEqual(dataKey);
  expect(rotated.wrap(dataKey, place).masterKeyId).toBe("2026");
  expect(rotated.unwrap(wrapped, { ...place, projectId: "proj_2" })).toBeUndefined();
  expect(rotated.unwrap(wrapped, { ...place, id: "key-2" })).toBeUndefined();
  expect(new MasterKeys(`2026:${present}`).unwrap(wrapped, place)).toBeUndefined();
  expect(new MasterKeys(`2025:${present}`).unwrap(wrapped, place)).toBeUndefined();
  // Without a name it has one that it keeps.
  expect(new MasterKeys(present).firstId).toBe(new MasterKeys(present).firstId);
});

test("what is no key is refused, and not shown", () => {
  expect(new MasterKeys(undefined).any).toBe(false);
  expect(new MasterKeys("").any).toBe(false);
  const short = randomBytes(16).toString("base64");
  for (const text of [short, "2026:", `2026:${short}`, "not-a-key", "x".repeat(44)]) {
    expect(() => new MasterKeys(text), text).toThrow(/^CONTENT_LOG_KEY: expected 32 random bytes/);
  }
  const key = randomBytes(32).toString("base64");
  expect(() => new MasterKeys(`a:${key},a:${key}`)).toThrow("names a key twice");
  expect(() => new MasterKeys(`${short}`)).not.toThrow(short);
});
