/** What the gateway benchmark's command line may say. */
import { parseArgs } from "node:util";
import { oneOf } from "../engine/options.ts";
import { defaultLanes, type LaneName, laneNames } from "./lanes/table.ts";

export type Options = {
  lanes: readonly LaneName[];
  /** How many the lane `requests` sends. */
  requests: number;
  /** Where the gateway's profile is written. */
  profile: string | undefined;
  /** Short rounds: to see that all runs, not to measure. */
  quick: boolean;
};

export const usage = `usage: npm run bench -- gateway [LANE ...] [--requests N] [--profile FOLDER] [--quick]

What the gateway costs, and what it keeps of it. Without a lane it runs all but the last two, in about twenty minutes:
${laneNames.map(([name, what]) => `  ${name.padEnd(12)} ${what}`).join("\n")}

  --requests  how many the lane \`requests\` sends; a million unless it is said
  --profile   where the lane \`profile\` leaves its flame graph and V8's .cpuprofile
  --quick     short rounds: shows that everything runs
`;

/** @returns undefined when help was asked for, or what is asked is not known */
export function readOptions(args: readonly string[]): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        requests: { type: "string", default: "1000000" },
        profile: { type: "string" },
        quick: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) return undefined;
    const requests = Number(values.requests);
    if (!Number.isSafeInteger(requests) || requests < 1)
      throw new Error("--requests wants a number");
    const names = laneNames.map(([name]) => name);
    return {
      lanes:
        positionals.length === 0 ? defaultLanes : positionals.map((text) => oneOf(names, text)),
      requests,
      profile: values.profile,
      quick: values.quick,
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n`);
    return undefined;
  }
}
