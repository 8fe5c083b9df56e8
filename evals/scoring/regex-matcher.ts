/** Matches a user's regular expression in a thread of its own, so that a slow one cannot hold this one up. */
import { Worker } from "node:worker_threads";
import { z } from "zod";

export type RegexMatcher = {
  /**
   * Whether the pattern is found in the text.
   * @throws Error when a match takes longer than its bound, as backtracking patterns can
   */
  matches(text: string): Promise<boolean>;
  close(): Promise<void>;
};

/**
 * @param pattern     a regular expression of JavaScript, used with the `u` flag; checked by the caller
 * @param matchMsMax  how long one match may take
 */
export function openRegexMatcher(options: { pattern: string; matchMsMax: number }): RegexMatcher {
  const waiting = new Map<number, (reply: Reply) => void>();
  let nextId = 0;
  let stopped = false;
  // The thread starts with the first match: a judge may be opened only to check references.
  let worker: Worker | undefined;

  const fail = (error: string) => {
    stopped = true;
    for (const [id, resolve] of waiting) resolve({ id, error });
    waiting.clear();
  };
  const start = () => {
    const started = new Worker(matcherSource, { eval: true, workerData: options });
    started.unref();
    started.on("message", (message) => {
      const answer = reply.parse(message);
      waiting.get(answer.id)?.(answer);
      waiting.delete(answer.id);
    });
    started.on("error", (error) => fail(`the matcher stopped: ${error.message}`));
    started.on("exit", () => fail("the matcher is closed"));
    return started;
  };

  return {
    async matches(text) {
      if (stopped) throw new Error("the matcher is closed");
      worker ??= start();
      const running = worker;
      const answer = await new Promise<Reply>((resolve) => {
        const id = nextId++;
        waiting.set(id, resolve);
        running.postMessage({ id, text });
      });
      if (answer.matched === undefined) throw new Error(answer.error);
      return answer.matched;
    },
    async close() {
      await worker?.terminate();
      fail("the matcher is closed");
    },
  };
}

/**
 * Source text, because a worker's file would need another loader under tsx, vitest and plain Node each.
 * V8 checks for `timeout` while it backtracks, so the thread itself outlives a runaway match.
 */
const matcherSource = `
const { parentPort, workerData } = require("node:worker_threads");
const vm = require("node:vm");
const context = vm.createContext({ pattern: workerData.pattern, text: "" });
vm.runInContext('const regex = new RegExp(pattern, "u");', context);
const match = new vm.Script("regex.test(text)");
parentPort.on("message", ({ id, text }) => {
  context.text = text;
  try {
    const matched = match.runInContext(context, { timeout: workerData.matchMsMax });
    parentPort.postMessage({ id, matched });
  } catch {
    const error = "the pattern took longer than " + workerData.matchMsMax + " ms on this answer";
    parentPort.postMessage({ id, error });
  }
});
`;

const reply = z.object({
  id: z.int(),
  matched: z.boolean().optional(),
  error: z.string().optional(),
});
type Reply = z.infer<typeof reply>;
