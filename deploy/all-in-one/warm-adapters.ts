/** Has the engine load the settings' adapters that are to be in memory from the start. */
import { z } from "zod";
import {
  type DeclaredAdapter,
  type DeclaringStore,
  loadDeclared,
} from "../../adapter-server/lora/declared-adapters.ts";
import { adapter } from "../../sdk/protocol/catalog.ts";
import type { Fetcher } from "../../sdk/protocol/http.ts";
import { defaultAlias } from "../../sdk/protocol/model-name.ts";
import type { Settings } from "../settings/schema.ts";
import { registryCaller } from "./registry-caller.ts";

export type WarmOptions = {
  embedded: NonNullable<Settings["embedded"]>;
  engine: { adapters: DeclaringStore };
  adminKey: string;
  registry: Fetcher;
  onProgress: (what: string) => void;
  /** Hears of adapters that will be loaded when they are asked for. */
  onFault: (message: string, cause: unknown) => void;
};

/**
 * Loads what each name's champion is now; later champions are loaded when they are asked for.
 * @throws HubError when more is pinned than fits
 */
export async function warmAdapters(options: WarmOptions): Promise<void> {
  const { embedded, engine, adminKey, registry, onProgress, onFault } = options;
  const wanted = embedded.adapters.filter(({ load }) => load !== "on-demand");
  if (wanted.length === 0) return;
  const call = registryCaller(registry, adminKey);
  const known = await allAdapters((path) => call("GET", path));
  const declared = wanted.flatMap(({ name, load }): DeclaredAdapter[] => {
    const found = known.find((one) => one.base === embedded.id && one.name === name);
    const champion = found?.versions.find(({ version }) => version === found.aliases[defaultAlias]);
    if (!champion) return [];
    return [{ type: "digest", digest: champion.digest, pinned: load === "pinned" }];
  });
  onProgress(`loading ${wanted.map(({ name }) => name).join(", ")}`);
  await loadDeclared(engine.adapters, declared, onFault);
}

async function allAdapters(get: (path: string) => Promise<unknown>) {
  const all: z.infer<typeof adapter>[] = [];
  for (;;) {
    const after = all.at(-1)?.id;
    const query = after === undefined ? "" : `&after=${after}`;
    const { data } = page.parse(await get(`/api/adapters?limit=${pageSize}${query}`));
    all.push(...data);
    if (data.length < pageSize) return all;
  }
}

const pageSize = 100;
const page = z.object({ data: z.array(adapter) });
