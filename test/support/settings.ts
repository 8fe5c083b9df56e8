/** `switchyard.yaml` for tests: the demo's base model, and emulated providers beside it. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import type { z } from "zod";
import type { settings } from "../../deploy/settings/schema.ts";

export type SettingsInput = z.input<typeof settings>;

export type SettingsFile = { path: string; remove(): Promise<void> };

/** A folder of the demo model, such as `base` or `adapters/tone-formal`. */
export function demoModelPath(path: string): string {
  return fileURLToPath(new URL(`../../deploy/demo-model/${path}`, import.meta.url));
}

/** The small model of the demo at the demo's prices, without adapters. */
export const demoBase = {
  id: "support-tiny",
  folder: demoModelPath("base"),
  prices: { input: "0.004", output: "0.02", source: "test" },
} satisfies SettingsInput["embedded"];

/** Writes the settings into a folder of their own, for `SWITCHYARD_CONFIG`. */
export async function writeSettings(input: SettingsInput): Promise<SettingsFile> {
  const folder = await mkdtemp(join(tmpdir(), "switchyard-settings-"));
  const path = join(folder, "switchyard.yaml");
  await writeFile(path, stringify(input));
  return { path, remove: () => rm(folder, { recursive: true, force: true }) };
}
