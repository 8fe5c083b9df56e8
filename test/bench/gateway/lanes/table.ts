/** The lanes of the gateway benchmark: one for each thing that its speed promises. */
import type { Lane as LaneOf } from "../../run-lanes.ts";
import type { Setting } from "../setting.ts";

export type Lane = LaneOf<Setting>;

export const laneNames = [
  ["rate", "requests a second, governed and not, against a bare proxy and other gateways"],
  ["latency", "what one request at a time takes longer than at the upstream itself"],
  ["leaving", "how long an upstream goes on working for a client that has left"],
  ["keys", "100,000 keys in 1,000 projects under 50 budgets each, against one key under one"],
  ["workers", "two processes against one, with the same limits and budgets in Redis"],
  ["dashboard", "requests at full load while reports are read, against without"],
  ["storm", "5,000 clients that leave: memory before and after"],
  ["requests", "a million requests: memory all the while; takes long"],
  [
    "profile",
    "what the processor does for a request, as a flame graph; to look at, and not to compare",
  ],
] as const;
export type LaneName = (typeof laneNames)[number][0];

export const defaultLanes: readonly LaneName[] = laneNames
  .map(([name]) => name)
  .filter((name) => name !== "requests" && name !== "profile");

export async function loadLane(name: LaneName): Promise<Lane> {
  switch (name) {
    case "rate":
      return (await import("./rate.ts")).rate;
    case "latency":
      return (await import("./rate.ts")).latency;
    case "leaving":
      return (await import("./leaving.ts")).leaving;
    case "keys":
      return (await import("./keys.ts")).keys;
    case "workers":
      return (await import("./workers.ts")).workers;
    case "dashboard":
      return (await import("./dashboard.ts")).dashboard;
    case "storm":
      return (await import("./memory.ts")).storm;
    case "requests":
      return (await import("./memory.ts")).requests;
    case "profile":
      return (await import("./profile.ts")).profile;
  }
}
