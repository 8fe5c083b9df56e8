/** Adapters that the settings name: they are in memory before the first request, and stay there if pinned. */
import { resolve } from "node:path";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Sha256, sha256 } from "../../sdk/protocol/ids.ts";
import { isAdapterName } from "./adapter-names.ts";
import type { AdapterStore } from "./adapter-store.ts";

/** A folder's adapter under a name, or one that the registry knows by its digest. */
export type DeclaredAdapter = { pinned: boolean } & (
  | { type: "folder"; name: string; path: string }
  | { type: "digest"; digest: Sha256 }
);

export type DeclaringStore = Pick<AdapterStore, "acquire" | "loadNamed" | "pinDigest">;

/**
 * Reads `name=folder,sha256-…`.
 * @param variable where the text stands, for errors
 * @throws HubError `invalid_value` that names the entry
 */
export function parseDeclared(
  text: string,
  { pinned, variable }: { pinned: boolean; variable: string },
): DeclaredAdapter[] {
  const entries = text.split(",").map((entry) => entry.trim());
  return entries
    .filter((entry) => entry !== "")
    .map((entry) => {
      const digest = sha256.safeParse(entry.replace(/^sha256-/, ""));
      if (digest.success) return { type: "digest", digest: digest.data, pinned };
      const [name = "", ...path] = entry.split("=");
      if (isAdapterName(name) && path.join("=") !== "") {
        return { type: "folder", name, path: resolve(path.join("=")), pinned };
      }
      throw new HubError(
        "invalid_value",
        `${variable}: '${entry.slice(0, 200)}' is neither name=folder nor sha256-… of an adapter.`,
        { param: variable },
      );
    });
}

/**
 * Loads them, the pinned ones first. What cannot be fetched from the registry now is loaded when it is asked for.
 * @param onFault hears of those
 * @throws HubError what is wrong with a folder's adapter, or that more is pinned than fits
 */
export async function loadDeclared(
  store: DeclaringStore,
  declared: readonly DeclaredAdapter[],
  onFault: (message: string, cause: unknown) => void,
): Promise<void> {
  for (const adapter of declared.filter(({ pinned }) => pinned)) await load(adapter);
  await Promise.all(declared.filter(({ pinned }) => !pinned).map(load));

  async function load(adapter: DeclaredAdapter): Promise<void> {
    try {
      if (adapter.type === "folder") {
        await store.loadNamed({ ...adapter, replace: false, by: "settings" });
      } else if (adapter.pinned) await store.pinDigest(adapter.digest);
      else (await store.acquire(adapter.digest)).release();
    } catch (error) {
      const name = adapter.type === "folder" ? adapter.name : `sha256-${adapter.digest}`;
      const isElsewhere = adapter.type === "digest" && !isAboutRoom(error);
      if (isElsewhere) onFault(`adapter ${name} could not be loaded at the start`, error);
      else throw at(name, error);
    }
  }
}

function isAboutRoom(error: unknown): boolean {
  return (
    error instanceof HubError &&
    (error.code === "invalid_value" || error.code === "unsupported_adapter")
  );
}

function at(name: string, error: unknown): unknown {
  if (!(error instanceof HubError)) return error;
  const { code, message, param, details } = error;
  return new HubError(code, `Adapter '${name}': ${message}`, { param, details, cause: error });
}
