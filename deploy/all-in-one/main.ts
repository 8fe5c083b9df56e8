/** `npm start`: serves all of Switchyard, says what to do next, and drains on Ctrl-C. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { StartError } from "../settings/load.ts";
import { showProgress } from "./progress.ts";
import { firstAnswer, readyMessage } from "./ready.ts";
import { type Serving, serve } from "./serve.ts";

const startedAt = performance.now();
const progress = showProgress();
try {
  const serving = await serve(process.env, progress.show);
  progress.end();
  stopOnSignal(serving);
  const answer = serving.keys.isNew ? await firstAnswer(serving) : undefined;
  console.log(readyMessage({ ...serving, answer, startMs: performance.now() - startedAt }));
} catch (error) {
  progress.end();
  console.error(isForOperators(error) ? `switchyard: ${error.message}` : error);
  process.exit(1);
}

/** The first signal drains; a second one ends at once. */
function stopOnSignal(serving: Serving): void {
  let stopping = false;
  const stop = async () => {
    if (stopping) process.exit(130);
    stopping = true;
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
