/** The lanes of the engine benchmark: one for each row of what the engine promises. */
import type { Lane as LaneOf } from "../../run-lanes.ts";
import type { Setting } from "../setting.ts";

export type Lane = LaneOf<Setting>;

export const laneNames = [
  ["decode", "tokens/s of 1 to 32 sequences, against llama.cpp"],
  ["prefill", "tokens/s of prompts of 256 and 512 tokens, against llama.cpp"],
  ["requests", "8 and 32 requests, each on an adapter of its own, against llama.cpp"],
  ["curve", "tokens/s of 1 to 64 sequences, against one"],
  ["adapters", "8 sequences on 8 adapters, against 8 on the base"],
  ["speculation", "prompt lookup on an extraction, against without"],
  ["javascript", "what JavaScript takes of a step of 8 sequences"],
  ["memory", "resident memory, against weights and pools"],
  ["import", "time and peak memory of importing SmolLM2-135M"],
] as const;
export type LaneName = (typeof laneNames)[number][0];

export async function loadLane(name: LaneName): Promise<Lane> {
  switch (name) {
    case "decode":
      return (await import("./decode.ts")).decode;
    case "prefill":
      return (await import("./prefill.ts")).prefill;
    case "requests":
      return (await import("./requests.ts")).requests;
    case "curve":
      return (await import("./curve.ts")).curve;
    case "adapters":
      return (await import("./adapters.ts")).adapters;
    case "speculation":
      return (await import("./speculation.ts")).speculation;
    case "javascript":
      return (await import("./javascript.ts")).javascript;
    case "memory":
      return (await import("./memory.ts")).memory;
    case "import":
      return (await import("./import.ts")).importing;
  }
}
