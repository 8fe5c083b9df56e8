import { expect, test } from "vitest";
import { TenantPlaces } from "./tenant-places.ts";

test("one project takes its part, others take theirs, and what is given back can be taken again", async () => {
  const places = new TenantPlaces({ max: 3, perProjectMax: 2, what: "transfers" });
  const [first] = [places.take("a"), places.take("a")];
  expect(() => places.take("a")).toThrow(
    expect.objectContaining({ code: "rate_limit_exceeded", retryAfterMs: 1000 }),
  );
  const other = places.take("b");
  expect(() => places.take("c")).toThrow(expect.objectContaining({ code: "server_is_overloaded" }));
  first?.();
  first?.();
  expect(() => places.take("a")()).not.toThrow();
  other();
  await expect(places.admit("b", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  const again = [places.take("b"), places.take("b")];
  expect(again).toHaveLength(2);
});
