/** Brings the settings' adapters into an empty registry, by the same route as anyone who pushes one. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { z } from "zod";
import type { Fetcher } from "../../sdk/protocol/http.ts";
import { defaultAlias } from "../../sdk/protocol/model-name.ts";
import type { Settings } from "../settings/schema.ts";
import { registryCaller } from "./registry-caller.ts";

export type SeedOptions = {
  embedded: NonNullable<Settings["embedded"]>;
  /** What the adapters' folders are relative to. */
  folder: string;
  /** Of the first project, which owns them. */
  projectId: string;
  adminKey: string;
  registry: Fetcher;
  onProgress: (what: string) => void;
};

/**
 * Pushes those that are not served yet, shared with all projects, and makes each its name's champion. It
 * has no evidence of this installation behind it, and the history says so. A start that was cut off is
 * made good by the next: a push of the same content is the same version.
 */
export async function seedAdapters(options: SeedOptions): Promise<void> {
  const { embedded, folder, projectId, adminKey, registry, onProgress } = options;
  if (embedded.adapters.length === 0) return;
  const call = registryCaller(registry, adminKey);
  const { data: known } = adapterList.parse(await call("GET", "/api/adapters?limit=100"));
  for (const adapter of embedded.adapters) {
    if (known.some((it) => it.base === embedded.id && it.name === adapter.name && isServed(it))) {
      continue;
    }
    onProgress(`pushing ${embedded.id}:${adapter.name}`);
    const form = new FormData();
    form.set(
      "manifest",
      JSON.stringify({ base: embedded.id, name: adapter.name, projectId, shared: true }),
    );
    for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
      form.set(name, new Blob([await readFile(resolve(folder, adapter.folder, name))]), name);
    }
    const pushed = pushAnswer.parse(await call("POST", "/api/adapters", form));
    if (isServed(pushed.adapter)) continue;
    await call("PUT", `/api/adapters/${pushed.adapter.id}/aliases/${defaultAlias}`, {
      version: pushed.version.version,
      expect: null,
      force: true,
      reason: "named in the settings; not measured on this installation",
    });
  }
}

const isServed = ({ aliases }: { aliases: Record<string, number> }) =>
  aliases[defaultAlias] !== undefined;

const aliases = z.record(z.string(), z.number());
const adapterList = z.object({
  data: z.array(z.object({ base: z.string(), name: z.string(), aliases })),
});
const pushAnswer = z.object({
  adapter: z.object({ id: z.string(), aliases }),
  version: z.object({ version: z.number() }),
});
