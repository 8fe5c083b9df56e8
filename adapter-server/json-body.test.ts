/** How much JSON a body may hold, and what is told of one that is none. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { readJsonBody } from "./json-body.ts";

const read = (body: string, valuesMax: number) =>
  readJsonBody(new Request("http://test/", { method: "POST", body }), valuesMax);

function valuesIn(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return Object.values(value).reduce<number>((sum, one) => sum + 1 + valuesIn(one), 0);
}

test("a body is read when it has as many values as it may, and refused when it has one more", async () => {
  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ maxDepth: 4 }), async (value) => {
      const body = JSON.stringify(value);
      const count = valuesIn(JSON.parse(body));
      expect(await read(body, count)).toEqual(JSON.parse(body));
      if (count > 0) {
        await expect(read(body, count - 1)).rejects.toMatchObject({ code: "request_too_large" });
      }
    }),
  );
});

test("lists nested without end are counted and overflow nothing", async () => {
  const deep = "[".repeat(100_000) + "]".repeat(100_000);
  await expect(read(deep, 1000)).rejects.toMatchObject({ code: "request_too_large" });
});

test("a body is read down to a depth that no use reaches, and no deeper", async () => {
  const nested = (depth: number) => `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`;
  expect(await read(nested(512), 1000)).toEqual(JSON.parse(nested(512)));
  await expect(read(nested(513), 1000)).rejects.toMatchObject({ code: "invalid_value" });
});

test("what is no JSON is told", async () => {
  await expect(read("{", 10)).rejects.toMatchObject({ code: "invalid_json" });
});
