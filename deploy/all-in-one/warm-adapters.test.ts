/** Which versions of the settings' adapters the engine is told to load before the first request. */
import { expect, test } from "vitest";
import type { DeclaringStore } from "../../adapter-server/lora/declared-adapters.ts";
import { newId, type Sha256 } from "../../sdk/protocol/ids.ts";
import { settings } from "../settings/schema.ts";
import { warmAdapters } from "./warm-adapters.ts";

const digest = (head: string) => head.padEnd(64, "0") as Sha256;

function adapterOf(name: string, base: string, champion: number | undefined) {
  const version = (number: number) => ({
    ...{ version: number, digest: digest(`${name.charCodeAt(0)}${number}`), sizeBytes: 1, rank: 1 },
    ...{ configSha256: digest("c"), weightsSha256: digest("d"), baseDigest: digest("e") },
    ...{ targetModules: [], lineage: {}, createdBy: "t", createdAt: "2026-01-01T00:00:00Z" },
  });
  return {
    ...{ id: newId("adp"), base, name, projectId: newId("proj"), shared: true },
    ...{ versions: [version(1), version(2)], createdAt: "2026-01-01T00:00:00Z" },
    aliases: champion === undefined ? {} : { champion },
  };
}

test("the champion of each name is loaded, however many adapters the registry has, and what is pinned is pinned", async () => {
  const embedded = settings.parse({
    embedded: {
      id: "base",
      folder: "f",
      adapters: [
        { name: "a", folder: "a", load: "pinned" },
        { name: "b", folder: "b", load: "at-start" },
        { name: "c", folder: "c" },
        { name: "d", folder: "d", load: "at-start" },
      ],
    },
  }).embedded!;
  const others = Array.from({ length: 120 }, (_, index) => adapterOf(`x${index}`, "base", 1));
  const all = [
    ...others,
    adapterOf("a", "elsewhere", 1),
    adapterOf("a", "base", 2),
    adapterOf("b", "base", 1),
    adapterOf("c", "base", 1),
    adapterOf("d", "base", undefined),
  ];
  const loaded: string[] = [];
  const adapters: DeclaringStore = {
    loadNamed: () => expect.fail("the registry's adapters have no folder"),
    pinDigest: async (one: string) => void loaded.push(`pin ${one.slice(0, 4)}`),
    acquire: async (one: string) => {
      loaded.push(`load ${one.slice(0, 4)}`);
      return { adapter: { digest: one, rank: 1, layers: [] }, release: () => {} };
    },
  };
  await warmAdapters({
    embedded,
    engine: { adapters },
    adminKey: "key",
    registry: {
      async fetch(request) {
        const { searchParams } = new URL(request.url);
        const after = all.findIndex(({ id }) => id === searchParams.get("after"));
        const data = all.slice(after + 1, after + 1 + Number(searchParams.get("limit")));
        return Response.json({ object: "list", data });
      },
    },
    onProgress: () => {},
    onFault: (message, cause) => expect.fail(`${message} ${cause}`),
  });
  expect(loaded).toEqual(["pin 9720", "load 9810"]);
});
