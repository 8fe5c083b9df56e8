/** The lanes of the dialects benchmark: one for each row of what translating promises. */
import type { Lane as LaneOf } from "../../run-lanes.ts";
import type { Setting } from "../setting.ts";

export type Lane = LaneOf<Setting>;

export const laneNames = [
  ["cost", "streams a second that are translated, against those that pass"],
  ["pace", "500 streams with deltas 20 ms apart: what is added to the first delta, and to gaps"],
  ["memory", "prompts of 150 KB, 500 at a time: resident memory at its peak and afterwards"],
] as const;
export type LaneName = (typeof laneNames)[number][0];

export async function loadLane(name: LaneName): Promise<Lane> {
  switch (name) {
    case "cost":
      return (await import("./cost.ts")).cost;
    case "pace":
      return (await import("./pace.ts")).pace;
    case "memory":
      return (await import("./memory.ts")).memory;
  }
}
