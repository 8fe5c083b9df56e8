/** What the settings' prices become. */
import { expect, test } from "vitest";
import { settings } from "../settings/schema.ts";
import { toDeclared } from "./declared.ts";

const declared = (fields: object) => toDeclared(settings.parse(fields), undefined).prices ?? [];
const perToken = (fields: object) =>
  Object.fromEntries(declared(fields).map(({ meter, usdPerToken }) => [meter, usdPerToken]));

const prices = { input: "1", output: "4" };

test("cached tokens of our own engine cost what input costs, where no discount is given for them", () => {
  const embedded = { id: "tiny", folder: "base" };
  expect(perToken({ embedded: { ...embedded, prices } })).toEqual({
    input: "0.000001",
    cache_read: "0.000001",
    output: "0.000004",
    reasoning: "0.000004",
  });
  const discount = { ...prices, cache_read: "0.1" };
  expect(perToken({ embedded: { ...embedded, prices: discount } })).toMatchObject({
    cache_read: "0.0000001",
  });
  expect(declared({ embedded })).toEqual([]);
});

test("a batch's prices are beside the others, and reasoning and cached tokens follow them", () => {
  const batch = { input: "0.5", output: "2" };
  const rows = declared({ embedded: { id: "tiny", folder: "base", prices: { ...prices, batch } } });
  const ofBatches = rows.filter(({ tier }) => tier === "batch");
  expect(Object.fromEntries(ofBatches.map((it) => [it.meter, it.usdPerToken]))).toEqual({
    input: "0.0000005",
    cache_read: "0.0000005",
    output: "0.000002",
    reasoning: "0.000002",
  });
  expect(rows).toHaveLength(8);
});

test("those of others stay without a price, unless their server is one of ours", () => {
  const served = (type: string) => ({
    upstreams: [{ name: "u", type, baseUrl: "http://127.0.0.1:1" }],
    models: [{ id: "m", upstream: "u", prices }],
  });
  expect(perToken(served("openai"))).not.toHaveProperty("cache_read");
  expect(perToken(served("adapter-server"))).toMatchObject({ cache_read: "0.000001" });
});
