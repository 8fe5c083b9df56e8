/** The lanes of the adapter benchmark: one for each row of what serving adapters promises. */
import type { Lane as LaneOf } from "../../run-lanes.ts";
import type { Setting } from "../setting.ts";

export type Lane = LaneOf<Setting>;

export const laneNames = [
  ["load", "from host memory and from disk into a slot, and steps that go on meanwhile"],
  ["churn", "gaps between tokens of 8 streams while 100 adapters come and go, against quiet"],
  ["zipf", "64 adapters over 8 slots against 8 adapters, and a curve from 1 to 256"],
  ["cold", "longest wait of a cold adapter under a saturating hot one, against its bound"],
  ["prefix", "first token with 512 cached tokens, against without"],
  ["structured", "tokens that follow a JSON schema, against free ones"],
  ["tenants", "a tenant's latency beside one that floods, against alone"],
  ["merged", "one process with N adapters, against N merged llama.cpp processes"],
] as const;
export type LaneName = (typeof laneNames)[number][0];

export async function loadLane(name: LaneName): Promise<Lane> {
  switch (name) {
    case "load":
      return (await import("./load.ts")).load;
    case "churn":
      return (await import("./churn.ts")).churn;
    case "zipf":
      return (await import("./zipf.ts")).zipf;
    case "cold":
      return (await import("./cold.ts")).cold;
    case "prefix":
      return (await import("./prefix.ts")).prefix;
    case "structured":
      return (await import("./structured.ts")).structured;
    case "tenants":
      return (await import("./tenants.ts")).tenants;
    case "merged":
      return (await import("./merged.ts")).merged;
  }
}
