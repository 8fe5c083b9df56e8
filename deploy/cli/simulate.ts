/** `switchyard engine simulate`, by the adapter-server's own scheduler. */
import { simulate } from "../../adapter-server/simulation/simulate.ts";
import type { Simulate } from "../../sdk/cli/engine-simulation.ts";
import { CommandError, exitCodes } from "../../sdk/cli/failure.ts";
import { HubError } from "../../sdk/protocol/errors.ts";

export const runSimulation: Simulate = async (options, onProgress) => {
  try {
    return await simulate(options, onProgress);
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    const { code, message } = error;
    throw new CommandError(message, { code, exitCode: exitCodes.wrongUse, cause: error });
  }
};
