/**
 * llama.cpp built for this very processor, through `llama-cpp-python`'s plain bindings, in a process of its
 * own: `llama_peer.py` does the work and takes the times. `LLAMA_PYTHON` names the interpreter that has it,
 * else `python3` is tried.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Contestant, promptOf } from "../contestant.ts";
import type { Peer, PeerOptions } from "./peer.ts";

/** One `llama_context`: what makes a difference to speed. */
type Settings = {
  sequences: number;
  contextTokens: number;
  batchTokens: number;
  microBatchTokens: number;
  threads: number;
  flashAttention: boolean;
};

export async function openPythonLlama(options: PeerOptions): Promise<Peer | undefined> {
  const process = await startPython();
  if (!process) return undefined;
  await process.ask({ do: "open", model: options.path });
  const variants = [true, false].map((flashAttention) => settingsOf(options, flashAttention));
  let quicker: Settings | undefined;
  return {
    contestants: variants.map((settings) => contestantOf(process, settings)),
    async answer(requests) {
      const adapters = requests.map((request) => request.adapter);
      await process.ask({ do: "load", adapters });
      const ask = (settings: Settings) =>
        process.ask({
          do: "answer",
          prompts: requests.map((request) => request.prompt),
          newTokens: requests[0]?.newTokens ?? 0,
          adapters,
          settings: { ...settings, sequences: 1 },
        });
      if (quicker) return (await ask(quicker)).ms;
      const tried = [];
      for (const settings of variants) tried.push({ settings, ...(await ask(settings)) });
      const best = tried.reduce((one, other) => (other.ms < one.ms ? other : one));
      quicker = best.settings;
      return best.ms;
    },
    close: () => process.close(),
  };
}

function settingsOf(
  { sequencesMax, contextTokens, threads }: PeerOptions,
  flashAttention: boolean,
): Settings {
  return {
    sequences: sequencesMax,
    contextTokens,
    batchTokens: 2048,
    microBatchTokens: 512,
    threads,
    flashAttention,
  };
}

function contestantOf(process: PythonProcess, settings: Settings): Contestant {
  return {
    name: `llama.cpp, native${settings.flashAttention ? ", flash attention" : ""}`,
    async decode({ sequences, promptTokens, newTokens, seed }) {
      const steps = newTokens - 1;
      const prompt = promptOf(promptTokens, seed);
      const { ms } = await process.ask({ do: "decode", settings, prompt, sequences, steps });
      return (sequences * steps * 1000) / ms;
    },
    async prefill(prompt) {
      const { ms } = await process.ask({ do: "prefill", settings, prompt });
      return (prompt.length * 1000) / ms;
    },
  };
}

type PythonProcess = {
  /** @throws Error with what the process said is wrong */
  ask(command: { do: string } & Record<string, unknown>): Promise<{ ms: number }>;
  close(): Promise<void>;
};

/** Undefined where there is no Python, or none with the bindings. */
async function startPython(): Promise<PythonProcess | undefined> {
  const python = process.env.LLAMA_PYTHON || "python3";
  const check = spawn(python, ["-c", "import llama_cpp, numpy"], { stdio: "ignore" });
  const [code] = await once(check, "exit").catch(() => [1]);
  if (code !== 0) return undefined;

  const script = fileURLToPath(new URL("./llama_peer.py", import.meta.url));
  const child = spawn(python, [script], { stdio: ["pipe", "pipe", "ignore"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = once(child, "exit").then(([code, signal]) => ({ by: signal ?? `code ${code}` }));
  child.stdin.on("error", () => {}); // `ended` tells.
  return {
    async ask(command) {
      child.stdin.write(`${JSON.stringify(command)}\n`);
      const line = await Promise.race([lines.next(), ended]);
      if ("by" in line)
        throw new Error(`llama.cpp's process ended at '${command.do}' (${line.by})`);
      const answer = JSON.parse(line.value) as { ms: number; error?: string };
      if (answer.error !== undefined)
        throw new Error(`llama.cpp at '${command.do}': ${answer.error}`);
      return answer;
    },
    async close() {
      child.stdin.end();
      await ended;
    },
  };
}
