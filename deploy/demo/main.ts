/**
 * `npm run demo`: the whole story in about a minute. A team sends a task to a dear model, pushes an adapter,
 * measures both, promotes the adapter, and sees the traffic and the bill move.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { showProgress } from "../all-in-one/progress.ts";
import { serve } from "../all-in-one/serve.ts";
import { readRows, startEmulatedProvider } from "./emulated-provider.ts";
import { demoSettings } from "./settings.ts";
import { type DemoServer, tellStory } from "./story.ts";

const dataset = fileURLToPath(
  new URL("../demo-model/datasets/support-triage/test.jsonl", import.meta.url),
);
const adapterFolder = fileURLToPath(
  new URL("../demo-model/adapters/support-triage", import.meta.url),
);
const providerKey = "sk-emulated-provider";

const { SWITCHYARD_URL: url, SWITCHYARD_ADMIN_KEY: adminKey } = process.env;
if (url && !adminKey) {
  console.error(
    "demo: SWITCHYARD_URL names a running server; set SWITCHYARD_ADMIN_KEY to its admin key as well.",
  );
  process.exit(2);
}
const server = url && adminKey ? runningServer(url, adminKey) : await temporaryServer();
try {
  await tellStory({ server, dataset, adapterFolder, rows: readRows(dataset), say: console.log });
} catch (error) {
  console.error(`demo: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await server.close();
}

/** A server that runs already: what its route `auto` takes by default is the dear model. */
function runningServer(serverUrl: string, key: string): DemoServer {
  return {
    url: serverUrl.replace(/\/$/, ""),
    adminKey: key,
    dearModel: undefined,
    close: async () => {},
  };
}

/** A server of our own in a folder that is removed afterwards, with the emulator as its provider. */
async function temporaryServer(): Promise<DemoServer> {
  const progress = showProgress();
  const folder = await mkdtemp(join(tmpdir(), "switchyard-demo-"));
  const emulator = await startEmulatedProvider(readRows(dataset), providerKey);
  const config = join(folder, "switchyard.yaml");
  await writeFile(config, demoSettings(emulator.baseUrl));
  const serving = await serve(
    {
      SWITCHYARD_CONFIG: config,
      SWITCHYARD_DATA_DIR: join(folder, "data"),
      PORT: "0",
      DEMO_PROVIDER_KEY: providerKey,
    },
    progress.show,
  );
  progress.end();
  return {
    url: serving.url,
    adminKey: serving.keys.adminKey,
    dearModel: "dear-model",
    close: async () => {
      await serving.close();
      await emulator.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
