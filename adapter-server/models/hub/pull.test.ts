import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type HubEmulator, startHubEmulator } from "../../../test/emulators/hub.ts";
import { demoFolder } from "../../__fixtures__/demo-model.ts";
import { importToLibrary } from "../library/import.ts";
import { listModels } from "../library/list.ts";
import { planRemoval, removeModels } from "../library/remove.ts";
import type { Machine } from "../library/room.ts";
import { parseHubRef, withFile } from "../library/source-ref.ts";
import { verifyModels } from "../library/verify.ts";
import { openModelSource } from "../model-source.ts";
import { readHubAccess } from "./hub-access.ts";
import { type PullPlan, pullModel } from "./pull.ts";

const weights = Buffer.alloc(3_000_000, "weights of a model that is none ");
const small = {
  "config.json": '{"architectures":["LlamaForCausalLM"]}',
  "tokenizer.json": '{"model":{"type":"BPE"}}',
};
const token = "hf_emulated";
let work: string;
let hub: HubEmulator;
let dataDir: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "switchyard-pull-"));
});
afterAll(() => rm(work, { recursive: true, force: true }));
beforeEach(async () => {
  dataDir = await mkdtemp(join(work, "data-"));
  hub = await startHubEmulator({
    token,
    repos: {
      "demo/model": {
        files: {
          ...small,
          "model.safetensors": weights,
          "pytorch_model.bin": "a pickle",
          "optimizer.pt": "another",
          "notes/README.md": "deep",
          LICENSE: "Apache License",
        },
        revisions: { "v1.0": { ...small, "model.safetensors": weights.subarray(0, 1000) } },
        licence: "apache-2.0",
      },
      "demo/gated": { files: { ...small, "model.safetensors": "gated" }, gated: true },
      "demo/private": { files: { ...small, "model.safetensors": "private" }, private: true },
      "demo/gguf": { files: { "a-q8_0.gguf": "eight", "a-q4_0.gguf": "four", "README.md": "" } },
      "demo/split": { files: {} },
      "demo/pickles": { files: { ...small, "pytorch_model.bin": "a pickle" } },
    },
  });
});
afterEach(() => hub.close());

type Asked = {
  env?: Record<string, string>;
  include?: string[];
  machine?: Machine;
  file?: string;
};

/** A pull that waits for nothing, and what it told. */
async function pull(text: string, { env = {}, include, machine, file }: Asked = {}) {
  const [plans, retries, waits]: [PullPlan[], string[], number[]] = [[], [], []];
  const ref = parseHubRef(text);
  const done = pullModel({
    ref: file === undefined ? ref : withFile(ref, file),
    include,
    dataDir,
    access: readHubAccess({ HF_ENDPOINT: hub.endpoint, ...env }),
    machine,
    onPlan: (plan) => plans.push(plan),
    waiting: {
      sleep: async (ms) => void waits.push(ms),
      random: () => 1,
      onRetry: (message) => void retries.push(message),
    },
  });
  return { ...(await done), plans, retries, waits };
}

const holdsWeights = async (folder: string) =>
  weights.equals(await readFile(join(folder, "model.safetensors")));
const folderOf = (commit: string) => join(dataDir, "sources/demo--model", commit);
const ranges = () =>
  hub.requests.filter(({ server }) => server === "store").map(({ headers }) => headers.range);

describe("a pull", () => {
  test("brings what an import needs of one commit, tells sizes before, and no pickle", async () => {
    const { source, plans, wasHere } = await pull("hf:demo/model");
    const commit = hub.commitOf("demo/model");
    expect(wasHere).toBe(false);
    expect(source).toMatchObject({ repo: "demo/model", commit, revisions: ["main"] });
    expect(source.licence).toBe("apache-2.0");
    expect((await readdir(source.folder)).sort()).toEqual([
      "LICENSE",
      "config.json",
      "model.safetensors",
      "source.json",
      "tokenizer.json",
    ]);
    expect(await holdsWeights(source.folder)).toBe(true);
    const digest = createHash("sha256").update(weights).digest("hex");
    expect(source.files).toContainEqual({
      name: "model.safetensors",
      sizeBytes: weights.length,
      sha256: digest,
    });
    expect(plans).toMatchObject([{ commit, hereBytes: 0, licence: "apache-2.0" }]);
    expect(plans[0]?.totalBytes).toBe(source.sizeBytes);
    expect(hub.requests.every(({ path }) => !/\.(bin|pt)$/.test(path))).toBe(true);
    expect(await verifyModels(undefined, dataDir)).toMatchObject([
      { type: "source", result: "ok" },
    ]);
  });

  test("is not done twice, and by its commit needs no network", async () => {
    const { source } = await pull("hf:demo/model");
    hub.requests.length = 0;
    expect((await pull("hf:demo/model")).wasHere).toBe(true);
    expect(hub.requests.length).toBe(1);
    expect((await pull(`hf:demo/model@${source.commit}`)).wasHere).toBe(true);
    expect(hub.requests.length).toBe(1);
  });

  test("of a tag and of a branch that has moved are two sources, each pinned to its commit", async () => {
    const first = hub.commitOf("demo/model");
    await pull("hf:demo/model@v1.0");
    await pull("hf:demo/model");
    const second = hub.push("demo/model", { ...small, "model.safetensors": "moved" });
    await pull("hf:demo/model");
    const { sources } = await listModels(dataDir);
    expect(sources.map(({ commit, revisions }) => [commit, revisions])).toEqual(
      expect.arrayContaining([
        [hub.commitOf("demo/model", "v1.0"), ["v1.0"]],
        [first, []],
        [second, ["main"]],
      ]),
    );
  });

  test("keeps to the commit that it began with when the branch moves in the middle", async () => {
    const commit = hub.commitOf("demo/model");
    hub.faults.push({ path: /tokenizer\.json/, type: "status", status: 503 });
    const pulling = pull("hf:demo/model");
    await expect.poll(() => hub.requests.length).toBeGreaterThan(0);
    hub.push("demo/model", { ...small, "model.safetensors": "moved" });
    expect((await pulling).source.commit).toBe(commit);
    expect(await holdsWeights(folderOf(commit))).toBe(true);
  });

  test("brings further files that are asked for, also later", async () => {
    await pull("hf:demo/model");
    const { source, wasHere } = await pull("hf:demo/model", { include: ["notes/*", "*.bin"] });
    expect(wasHere).toBe(false);
    expect(source.files.map(({ name }) => name).sort()).toEqual([
      "LICENSE",
      "config.json",
      "model.safetensors",
      "notes/README.md",
      "tokenizer.json",
    ]);
  });

  test("of a repository of GGUF files brings the one that is named", async () => {
    await expect(pull("hf:demo/gguf")).rejects.toMatchObject({
      code: "invalid_reference",
      hint: "Name it with --file: a-q8_0.gguf, a-q4_0.gguf.",
    });
    await expect(pull("hf:demo/gguf", { file: "b.gguf" })).rejects.toMatchObject({
      hint: "It has a-q8_0.gguf, a-q4_0.gguf.",
    });
    const [four, eight] = [
      await pull("hf:demo/gguf", { file: "a-q4_0.gguf" }),
      await pull("hf:demo/gguf/a-q8_0.gguf"),
    ];
    expect(await readFile(four.source.importPath, "utf8")).toBe("four");
    expect(await readFile(eight.source.importPath, "utf8")).toBe("eight");
    expect((await listModels(dataDir)).sources.length).toBe(2);
  });

  test("of a GGUF model in several files brings them all, and the first is imported", async () => {
    const parts = [1, 2, 3].map((no) => `phi3-split-0000${no}-of-00003.gguf`);
    const bytes = await Promise.all(
      parts.map((name) => readFile(new URL(`../gguf/__fixtures__/${name}`, import.meta.url))),
    );
    const files = Object.fromEntries(parts.map((name, index) => [name, bytes[index] ?? ""]));
    hub.push("demo/split", { ...files, "other.gguf": "" });
    const [first = "", second = ""] = parts;
    const { source } = await pull("hf:demo/split", { file: first });
    expect(source.files.map(({ name }) => name).sort()).toEqual(parts);
    const { spec } = await openModelSource(source.importPath);
    expect(spec.family).toBe("phi3");

    await expect(pull("hf:demo/split", { file: second })).rejects.toMatchObject({
      code: "invalid_reference",
      hint: `Name the first, ${first}: it brings the others.`,
    });
    hub.push("demo/split", { [first]: bytes[0] ?? "" });
    await expect(pull("hf:demo/split", { file: first })).rejects.toMatchObject({
      code: "model_not_found",
      message: `demo/split has no file '${second}'.`,
    });
  });

  test("of a real model is imported by its reference", async () => {
    const base = join(demoFolder, "base");
    const names = await readdir(base);
    const files = Object.fromEntries(
      await Promise.all(names.map(async (name) => [name, await readFile(join(base, name))])),
    );
    hub.push("demo/model", files);
    await pull("hf:demo/model");
    const { model } = await importToLibrary({ source: "hf:demo/model", format: "int8", dataDir });
    expect(model.chatTemplate).toContain("<|im_start|>");
    expect(model.shape.trainedAs).toContain("demo/model");
    const verdicts = await verifyModels(undefined, dataDir);
    expect(verdicts.map(({ result }) => result)).toEqual(["ok", "ok"]);
  });
});

describe("what breaks on the way", () => {
  test("connections cut in the middle are gone on with at the byte where they ended", async () => {
    for (const afterBytes of [1_000_000, 1_200_000, 10]) {
      hub.faults.push({ path: /^\/demo.*safetensors$/, type: "cut", afterBytes });
      // The hub's own answer to this path is a redirect, which has no body to cut.
      hub.faults.unshift({ path: /resolve.*safetensors$/, type: "no-range" });
    }
    const { source, retries } = await pull("hf:demo/model");
    expect(await holdsWeights(source.folder)).toBe(true);
    // A cut may take with it what was under way, so it is told where it was met.
    const met = retries.map((line) =>
      Number(/broke at byte (\d+) of model\.safetensors/.exec(line)?.[1]),
    );
    expect(met).toHaveLength(3);
    const [first = 0, second = 0, third = 0] = met;
    for (const [from, to, most] of [
      [0, first, 1_000_000],
      [first, second, 1_200_000],
      [second, third, 10],
    ] as const) {
      expect(to - from).toBeGreaterThanOrEqual(0);
      expect(to - from).toBeLessThanOrEqual(most);
    }
    expect(ranges()).toEqual([undefined, ...met.map((byte) => `bytes=${byte}-`)]);
  });

  test("a store that does not know ranges sends the whole file, and that is right as well", async () => {
    hub.faults.push(
      { path: /resolve.*safetensors$/, type: "no-range" },
      { path: /^\/demo\/model\/[0-9a-f]+\/model/, type: "cut", afterBytes: 1_000_000 },
      { path: /^\/demo\/model\/[0-9a-f]+\/model/, type: "no-range" },
    );
    const { source } = await pull("hf:demo/model");
    expect(await holdsWeights(source.folder)).toBe(true);
  });

  test("429 and 5xx are waited for as long as the server asks, else longer each time", async () => {
    hub.faults.push(
      { path: /^\/api/, type: "status", status: 429, headers: { "retry-after": "7" } },
      { path: /^\/api/, type: "status", status: 429, headers: { ratelimit: '"api";r=0;t=55' } },
      { path: /^\/api/, type: "status", status: 502 },
      { path: /^\/api/, type: "status", status: 503 },
      { path: /config/, type: "status", status: 500 },
    );
    expect((await pull("hf:demo/model")).waits).toEqual([7000, 55_000, 2000, 4000, 500]);
  });

  test("a server that never recovers, or asks to wait for an hour, is told", async () => {
    for (let i = 0; i < 6; i++) hub.faults.push({ path: /^\/api/, type: "status", status: 500 });
    await expect(pull("hf:demo/model")).rejects.toMatchObject({
      code: "hub_failed",
      message: expect.stringContaining("answers 500 6 times in a row"),
      hint: expect.stringContaining("goes on from there"),
    });
    const headers = { "retry-after": "3600" };
    hub.faults.push({ path: /^\/api/, type: "status", status: 429, headers });
    await expect(pull("hf:demo/model")).rejects.toMatchObject({
      message: expect.stringContaining("asks to wait 60 minutes"),
    });
  });

  test("wrong bytes are never kept", async () => {
    hub.faults.push({ path: /tokenizer\.json/, type: "flip", atByte: 3 });
    await expect(pull("hf:demo/model")).rejects.toMatchObject({ code: "digest_mismatch" });
    hub.faults.push(
      { path: /resolve.*safetensors$/, type: "no-range" },
      { path: /^\/demo\/model\/[0-9a-f]+\/model/, type: "flip", atByte: 12_345 },
    );
    await expect(pull("hf:demo/model")).rejects.toMatchObject({ code: "digest_mismatch" });
    const { sources, unfinished } = await listModels(dataDir);
    expect({ sources, unfinished }).toMatchObject({ sources: [], unfinished: [{}] });
    await pull("hf:demo/model");
    expect(await verifyModels(undefined, dataDir)).toMatchObject([{ result: "ok" }]);
  });

  test("a part of an earlier pull that is damaged is fetched anew as a whole", async () => {
    await failOnce();
    const part = join(folderOf(hub.commitOf("demo/model")), "model.safetensors.incomplete");
    await truncate(part, 500_000);
    await appendFile(part, "something else");
    hub.requests.length = 0;
    const { retries, plans } = await pull("hf:demo/model");
    expect(plans[0]?.hereBytes).toBeGreaterThan(500_000);
    expect(ranges()).toEqual(["bytes=500014-", undefined]);
    expect(retries).toEqual([expect.stringContaining("fetching it as a whole")]);
  });

  test("a part that is longer than the file, and a finished file that was changed, are fetched anew", async () => {
    await failOnce();
    const folder = folderOf(hub.commitOf("demo/model"));
    await writeFile(join(folder, "model.safetensors.incomplete"), Buffer.alloc(4_000_000));
    await writeFile(join(folder, "config.json"), "{}");
    const { source } = await pull("hf:demo/model");
    expect(await holdsWeights(source.folder)).toBe(true);
    expect(await readFile(join(source.folder, "config.json"), "utf8")).toBe(small["config.json"]);
  });

  /** A pull that ends with a million bytes of the weights. */
  async function failOnce(): Promise<void> {
    hub.faults.push({ path: /resolve.*safetensors$/, type: "no-range" });
    hub.faults.push({ path: /^\/demo\/model\/[0-9a-f]+\/m/, type: "cut", afterBytes: 1_000_000 });
    for (let i = 0; i < 5; i++) {
      hub.faults.push({ path: /resolve.*safetensors$/, type: "status", status: 503 });
    }
    await expect(pull("hf:demo/model")).rejects.toMatchObject({ code: "hub_failed" });
  }

  test("an unfinished pull is listed, and removed when asked", async () => {
    await failOnce();
    expect((await listModels(dataDir)).unfinished).toMatchObject([{ repo: "demo/model" }]);
    await removeModels(await planRemoval("hf:demo/model", dataDir));
    expect((await listModels(dataDir)).unfinished).toEqual([]);
    await pull("hf:demo/model");
  });
});

describe("the token", () => {
  test("goes to the hub, and never to where the hub redirects", async () => {
    await pull("hf:demo/private", { env: { HF_TOKEN: token } });
    const seen = hub.requests.map(({ server, headers }) => [server, headers.authorization]);
    expect(new Set(seen.map((pair) => pair.join(" ")))).toEqual(
      new Set([`hub Bearer ${token}`, "store "]),
    );
  });

  test("is not sent unencrypted, except on this machine", () => {
    const env = { HF_TOKEN: token, HF_ENDPOINT: "http://mirror.example" };
    expect(() => readHubAccess(env)).toThrow(/unencrypted/);
    expect(readHubAccess({ ...env, HF_ENDPOINT: "https://mirror.example/hub/" })).toEqual({
      endpoint: "https://mirror.example/hub",
      token,
      offline: false,
    });
  });

  test.each([
    ["a private model", "hf:demo/private", {}, /or it is private/, /set HF_TOKEN/],
    ["a model that is not there", "hf:demo/nothing", {}, /knows no hf:demo\/nothing/, /spelling/],
    ["a wrong token", "hf:demo/private", { HF_TOKEN: "hf_wrong" }, /HF_TOKEN may not/, /valid/],
    ["a gated model", "hf:demo/gated", {}, /is gated/, /Accept its terms at http.*demo\/gated/],
    ["a revision that is not there", "hf:demo/model@v9", {}, /no such revision/, /branches/],
    ["a repository of pickles", "hf:demo/pickles", {}, /no safetensors/, /run code/],
  ])("%s is told with what to do", async (_, ref, env, message, hint) => {
    await expect(pull(ref, { env })).rejects.toMatchObject({
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    });
    expect(existsSync(join(dataDir, "sources"))).toBe(false);
  });

  test("opens a gated model", async () => {
    expect((await pull("hf:demo/gated", { env: { HF_TOKEN: token } })).wasHere).toBe(false);
  });
});

describe("a hub that cannot be trusted", () => {
  test.each([
    ["../../escaped.safetensors"],
    ["/etc/x.safetensors"],
    ["a\\b.safetensors"],
    [".hidden.safetensors"],
  ])("names no file outside of the folder: %s", async (name) => {
    hub.push("demo/model", { ...small, "model.safetensors": "good", [name]: "evil" });
    await expect(pull("hf:demo/model", { include: ["**"] })).rejects.toMatchObject({
      code: "hub_failed",
      message: expect.stringContaining("in a way that is not accepted"),
    });
    expect(existsSync(join(dataDir, "sources"))).toBe(false);
  });

  test.each([
    ["a page", "<html>", /is not JSON/],
    ["another answer", "{}", /wrong at 'sha'/],
    ["no end", "x".repeat(20 * 2 ** 20), /does not end/],
  ])("answers with %s", async (_, text, message) => {
    hub.faults.push({ path: /^\/api/, type: "body", text });
    await expect(pull("hf:demo/model")).rejects.toMatchObject({
      code: "hub_failed",
      message: expect.stringMatching(message),
    });
  });

  test.each([["file:///etc/passwd"], ["ftp://host/x"], ["http://["]])(
    "redirects to %s",
    async (to) => {
      hub.faults.push({ path: /config\.json/, type: "redirect", to });
      await expect(pull("hf:demo/model")).rejects.toMatchObject({ code: "hub_failed" });
    },
  );

  test("redirects in a circle", async () => {
    for (let i = 0; i < 6; i++) {
      hub.faults.push({
        path: /config\.json/,
        type: "redirect",
        to: `${hub.endpoint}/config.json`,
      });
    }
    await expect(pull("hf:demo/model")).rejects.toThrow(/in a circle/);
  });
});

describe("this machine", () => {
  test("offline, only what is here already is found", async () => {
    const env = { HF_HUB_OFFLINE: "1" };
    await expect(pull("hf:demo/model", { env })).rejects.toMatchObject({ code: "hub_offline" });
    expect(hub.requests).toEqual([]);
    await pull("hf:demo/model");
    hub.requests.length = 0;
    expect((await pull("hf:demo/model", { env })).wasHere).toBe(true);
    expect(hub.requests).toEqual([]);
  });

  test("has its disk checked before anything is written, and too little memory told", async () => {
    const machine = { memoryBytes: 1000, freeDiskBytes: async () => 66 * 2 ** 20 };
    await expect(pull("hf:demo/model", { machine })).rejects.toMatchObject({
      code: "disk_full",
      message: expect.stringContaining("takes 2.9 MiB"),
    });
    expect(existsSync(join(dataDir, "sources"))).toBe(false);
    machine.freeDiskBytes = async () => 2 ** 40;
    const { plans } = await pull("hf:demo/model", { machine });
    expect(plans[0]?.warning).toMatch(/^Even as int4-128/);
  });

  test("lets only one process pull a commit", async () => {
    hub.faults.push({ path: /resolve.*config/, type: "hang", afterBytes: 5 });
    const first = pull("hf:demo/model").catch((error: unknown) => error);
    const lock = join(folderOf(hub.commitOf("demo/model")), "pull.lock");
    await expect.poll(() => existsSync(lock)).toBe(true);
    await expect(pull("hf:demo/model")).rejects.toMatchObject({
      code: "in_use",
      message: expect.stringContaining(`is worked on by process ${process.pid}`),
    });
    await hub.close();
    await first;
    expect(existsSync(lock)).toBe(false);
  });
});
