/** The command line of an installation that has the servers: `serve`, `config check`, local `models`, `engine`. */

import packageJson from "../../package.json" with { type: "json" };
import type { ConfigCheck } from "../../sdk/cli/commands/config.ts";
import type { Serve } from "../../sdk/cli/commands/serve.ts";
import type { Simulate } from "../../sdk/cli/engine-simulation.ts";
import type { OpenLocalModels } from "../../sdk/cli/local-models.ts";
import { main } from "../../sdk/cli/main.ts";

/** @returns the exit code */
export function run(argv: readonly string[]): Promise<number> {
  return main(argv, { configCheck, serve, models, simulate, version: packageJson.version });
}

// The servers are loaded only by the commands that need them: the others start in a moment.

const configCheck: ConfigCheck = async (file) => {
  const { loadSettings } = await import("../settings/load.ts");
  const env = file === undefined ? process.env : { ...process.env, SWITCHYARD_CONFIG: file };
  const { settings, path } = loadSettings(env);
  return {
    file: path,
    upstreams: settings.upstreams.length,
    models: settings.models.length + (settings.embedded ? 1 : 0),
    routes: settings.routes.length,
  };
};

const serve: Serve = async ({ model, host, port }) => {
  if (host !== undefined) process.env.HOST = host;
  if (port !== undefined) process.env.PORT = String(port);
  if (model === undefined) await import("../all-in-one/main.ts");
  else {
    process.env.MODEL = model;
    await import("../../adapter-server/main.ts");
  }
  // Both stop on a signal, and end the process themselves.
  await new Promise(() => {});
};

const models: OpenLocalModels = async (env) => {
  const { openLocalModels } = await import("./local-models.ts");
  return openLocalModels(env);
};

const simulate: Simulate = async (options, onProgress) => {
  const { runSimulation } = await import("./simulate.ts");
  return runSimulation(options, onProgress);
};
