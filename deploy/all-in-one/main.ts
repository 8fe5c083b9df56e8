/** `npm start`: serves all of Switchyard, says what to do next, and drains on Ctrl-C. */
import { constants } from "node:os";
import { HubError } from "../../sdk/protocol/errors.ts";
import { StartError } from "../settings/load.ts";
import { showProgress } from "./progress.ts";
import { firstAnswer, readyMessage } from "./ready.ts";
import { type Serving, StartStopped, serve } from "./serve.ts";

const startedAt = performance.now();
const progress = showProgress();
const start = new AbortController();
let serving: Serving | undefined;
stopOnSignal();
try {
  serving = await serve(process.env, progress.show, start.signal);
  progress.end();
  const answer = serving.keys.isNew ? await firstAnswer(serving) : undefined;
  console.log(readyMessage({ ...serving, answer, startMs: performance.now() - startedAt }));
} catch (error) {
  progress.end();
  if (start.signal.aborted) {
    console.error("stopped before it was ready");
    process.exit(start.signal.reason.exitCode);
  }
  console.error(isForOperators(error) ? `switchyard: ${error.message}` : error);
  process.exit(1);
}

/** The first signal ends the start, or drains what serves; a second one ends at once. */
function stopOnSignal(): void {
  let stopping = false;
  const stop = async (signal: NodeJS.Signals) => {
    const exitCode = 128 + constants.signals[signal];
    if (stopping) process.exit(exitCode);
    stopping = true;
    progress.end();
    if (!serving) {
      console.error("stopping; press Ctrl-C again to end at once");
      start.abort(new StartStopped(exitCode));
      return;
    }
    console.log("draining; press Ctrl-C again to end at once");
    await serving.close();
    process.exit(0);
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
}

/** What an operator can mend is told in one line; anything else is ours and shown whole. */
function isForOperators(error: unknown): error is Error {
  return (
    error instanceof StartError || (error instanceof HubError && error.code !== "internal_error")
  );
}
