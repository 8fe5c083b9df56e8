/** llama.cpp in the forms in which people have it; the fastest of them counts in every case. */
import type { Contestant } from "../contestant.ts";
import { openNodeLlama } from "./node-llama.ts";
import { openPythonLlama } from "./python-llama.ts";

/** An open model of llama.cpp's. */
export type Peer = {
  /** The same model with different settings, where those make a difference. */
  contestants: readonly Contestant[];
  /** Answers requests one after the other, each with its adapter; milliseconds for all. Absent where it cannot. */
  answer?(requests: readonly PeerRequest[]): Promise<number>;
  close(): Promise<void>;
};

export type PeerRequest = {
  prompt: readonly number[];
  newTokens: number;
  /** A GGUF file; it is read before anything is timed. */
  adapter: string;
};

export type PeerOptions = {
  path: string;
  threads: number;
  /** At most so many decode together. */
  sequencesMax: number;
  /** At most so many tokens each. */
  contextTokens: number;
};

/** What brings the peers, for who has none. */
export const howToGetPeers = [
  "no llama.cpp to compare with. Either or both:",
  "  npm install --no-save node-llama-cpp@3.22.1    (or LLAMA_NODE_MODULES=FOLDER/node_modules)",
  "  python3 -m venv VENV && CMAKE_ARGS=-DGGML_NATIVE=ON VENV/bin/pip install --no-binary llama-cpp-python llama-cpp-python numpy",
  "    and LLAMA_PYTHON=VENV/bin/python",
].join("\n");

/** All that this machine has; none is an empty list. */
export async function openPeers(options: PeerOptions): Promise<Peer[]> {
  const peers = [await openPythonLlama(options), await openNodeLlama(options)];
  return peers.filter((peer) => peer !== undefined);
}
