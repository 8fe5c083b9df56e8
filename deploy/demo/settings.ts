/** Settings of the demo's own server: the demo model, and the emulator at the price of a small API model. */
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";

/** @param providerUrl the emulator's address, `/v1` included */
export function demoSettings(providerUrl: string): string {
  return stringify({
    upstreams: [
      { name: "emulated", type: "openai", baseUrl: providerUrl, apiKeyEnv: "DEMO_PROVIDER_KEY" },
    ],
    models: [
      {
        id: "dear-model",
        upstream: "emulated",
        contextLength: 128_000,
        ownedBy: "emulator",
        prices: {
          input: "0.10",
          output: "0.50",
          source: "what OpenAI asked for gpt-6-luna on 2026-11-05",
        },
      },
    ],
    embedded: {
      id: "support-tiny",
      folder: fileURLToPath(new URL("../demo-model/base", import.meta.url)),
      prices: { input: "0.004", output: "0.02", source: "internal rate of the demo" },
    },
  });
}
