import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadSettings } from "./load.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-settings-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("without a file the demo is served", () => {
  const { settings } = loadSettings({}, folder);
  expect(settings.embedded?.id).toBe("support-tiny");
  expect(settings.upstreams).toEqual([]);
});

test("HOST and PORT win over the file", async () => {
  const path = join(folder, "own.yaml");
  await writeFile(path, "host: 0.0.0.0\nport: 9000\n");
  expect(loadSettings({ SWITCHYARD_CONFIG: path, PORT: "1234" }, folder).settings).toMatchObject({
    host: "0.0.0.0",
    port: 1234,
  });
});

test("OPENAI_API_KEY adds OpenAI, and it answers by default what no task takes", () => {
  const { settings } = loadSettings({ OPENAI_API_KEY: "sk-x" }, folder);
  expect(settings.upstreams.map(({ name }) => name)).toEqual(["openai"]);
  expect(settings.routes[0]).toMatchObject({
    name: "auto",
    defaultModel: "gpt-6-luna",
    fallbacks: ["support-tiny"],
  });
  expect(settings.models.every(({ prices }) => prices !== undefined)).toBe(true);
});

test("a named file that is not there stops the start", () => {
  expect(() => loadSettings({ SWITCHYARD_CONFIG: "nowhere.yaml" }, folder)).toThrow(
    /cannot read the settings file .*nowhere\.yaml/,
  );
});
