import { expect, test } from "vitest";
import { nameBlocks } from "./block-names.ts";

const tokens = Array.from({ length: 40 }, (_, index) => index);
const names = (named: { tokens?: number[]; adapter?: string; tenant?: string }, count = 4) => {
  const list: string[] = [];
  nameBlocks(list, { tokens, tenant: "t", ...named }, { count, blockSize: 4 });
  return list;
};

test("a block is named by all tokens up to its end", () => {
  const changed = tokens.with(5, 99);
  const same = names({});
  const other = names({ tokens: changed });
  expect(new Set([...same, ...other]).size).toBe(7);
  expect(other[0]).toBe(same[0]);
});

test("another adapter, another tenant, another name", () => {
  const all = [names({}), names({ adapter: "x" }), names({ tenant: "u" }), names({ tenant: "" })];
  expect(new Set(all.flat()).size).toBe(16);
});

test("no tenant's name looks like an adapter's", () => {
  const first = names({ tenant: 't","x' });
  expect(first[0]).not.toBe(names({ tenant: "t", adapter: "x" })[0]);
});

test("names that are there are kept, and further ones follow from them", () => {
  const list = names({}, 2);
  nameBlocks(list, { tokens, tenant: "t" }, { count: 4, blockSize: 4 });
  expect(list).toEqual(names({}, 4));
  nameBlocks(list, { tokens, tenant: "t" }, { count: 1, blockSize: 4 });
  expect(list).toHaveLength(4);
});
