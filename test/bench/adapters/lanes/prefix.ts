/** What the prefix cache saves until the first token, on an adapter: 512 tokens of 528 are cached. */
import { measurePrefixHits } from "../../prefix-cache.ts";
import { adaptersInMemory } from "../setting.ts";
import type { Lane } from "./table.ts";

export const prefix: Lane = async function* (setting) {
  const server = await setting.open({ prefixCache: true });
  try {
    const { engine, model } = server;
    setting.tell("prefix cache");
    for (const adapter of adaptersInMemory(model.shape, 1)) {
      engine.loadAdapter(adapter);
      const rounds = setting.full(15, 3);
      const { digest } = adapter;
      const measured = await measurePrefixHits(engine, { name: "on an adapter", rounds, digest });
      yield { ...measured, notes: [] };
    }
  } finally {
    await server.close();
  }
};
