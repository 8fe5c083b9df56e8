/** Settings out of the environment. */
import { expect, test } from "vitest";
import { HubError } from "../sdk/protocol/errors.ts";
import { readConfig } from "./config.ts";

test("a model folder is all that has to be said", () => {
  const config = readConfig({ MODEL: "/models/some-model", PORT: "" });
  expect(config).toMatchObject({
    host: "127.0.0.1",
    port: 8000,
    model: { id: "some-model", folder: "/models/some-model" },
    format: "auto",
    operatorKey: undefined,
    adapterFolders: [],
    prefixCache: true,
  });
  expect(config.limits.adapterSlots).toBe(8);
});

test("every limit has a variable of its own name", () => {
  const { limits } = readConfig({
    MODEL: "m",
    ADAPTER_SERVER_KV_CACHE_TOKENS: "4096",
    ADAPTER_SERVER_WAITING_MAX: "3",
    ADAPTER_SERVER_KV_CACHE_TYPE: "int8",
  });
  expect(limits).toMatchObject({ kvCacheTokens: 4096, waitingMax: 3, kvCacheType: "int8" });
});

test("the prefix cache is turned off by its variable", () => {
  const config = readConfig({ MODEL: "m", ADAPTER_SERVER_PREFIX_CACHE: "off" });
  expect(config.prefixCache).toBe(false);
});

test("weights for single sequences are asked for by their format, and off without", () => {
  const of = (value?: string) =>
    readConfig({ MODEL: "m", ADAPTER_SERVER_SINGLE_STREAM: value }).singleStream;
  expect([of(), of("off"), of("int4-128")]).toEqual([undefined, undefined, "int4-128"]);
  expect(() => of("int8")).toThrow("ADAPTER_SERVER_SINGLE_STREAM");
});

test("adapters to preload and to pin are read, the pinned ones first", () => {
  const { adapters } = readConfig({
    MODEL: "m",
    ADAPTER_SERVER_PRELOAD: "a=/srv/a",
    ADAPTER_SERVER_PIN: "b=/srv/b",
  });
  expect(adapters).toEqual([
    { type: "folder", name: "b", path: "/srv/b", pinned: true },
    { type: "folder", name: "a", path: "/srv/a", pinned: false },
  ]);
});

test("a model's name is one that a header carries, wherever it comes from", () => {
  for (const MODEL_ID of ["モデル", "a\nb"]) {
    expect(() => readConfig({ MODEL: "m", MODEL_ID })).toThrow("MODEL_ID");
  }
  expect(() => readConfig({ MODEL: "/models/モデル" })).toThrow("Set MODEL_ID");
  const named = readConfig({ MODEL: "/models/モデル", MODEL_ID: "Model 1" });
  expect(named.model.id).toBe("Model 1");
  expect(() => readConfig({ MODEL: "m", ADAPTER_SERVER_ENCODER: "/models/モデル" })).toThrow(
    "ADAPTER_SERVER_ENCODER_ID",
  );
});

test("what is wrong is refused by its name", () => {
  const wrong = [
    [{}, "MODEL"],
    [{ MODEL: "m", PORT: "http" }, "PORT"],
    [{ MODEL: "m", ADAPTER_SERVER_PIN: "../a" }, "ADAPTER_SERVER_PIN"],
    [{ MODEL: "m", ADAPTER_SERVER_OPERATOR_KEY: "short" }, "ADAPTER_SERVER_OPERATOR_KEY"],
    [{ MODEL: "m", ADAPTER_SERVER_SEQUENCES_MAX: "0" }, "ADAPTER_SERVER_SEQUENCES_MAX"],
    [{ MODEL: "m", ADAPTER_SERVER_PREFIX_CACHE: "maybe" }, "ADAPTER_SERVER_PREFIX_CACHE"],
    [{ MODEL: "m", ADAPTER_SERVER_STEP_TOKENS_MAX: "8" }, "ADAPTER_SERVER_STEP_TOKENS_MAX"],
  ] as const;
  for (const [env, name] of wrong) {
    expect(() => readConfig(env)).toThrow(HubError);
    expect(() => readConfig(env)).toThrow(name);
  }
});
