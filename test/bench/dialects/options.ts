/** What the dialects benchmark's command line may say. */
import { parseArgs } from "node:util";
import { oneOf } from "../engine/options.ts";
import { type LaneName, laneNames } from "./lanes/table.ts";
import { formats, type WireFormat } from "./wire.ts";

/** Who asks, and what answers; `openai-like` is a chat that is read and mended on its way. */
export type Pair = { client: WireFormat; upstream: WireFormat | "openai-like" };

export type Options = {
  lanes: readonly LaneName[];
  /** Absent: those that the lane is about. */
  pairs: readonly Pair[] | undefined;
  /** Where the gateway's profiles of its processor time are written. */
  profile: string | undefined;
  /** Short rounds: to see that all runs, not to measure. */
  quick: boolean;
};

export const usage = `usage: npm run bench -- dialects [LANE ...] [--pair CLIENT:UPSTREAM ...] [--profile FOLDER] [--quick]

What it costs that client and upstream speak differently. Without a lane it runs all of them, in about a quarter of an hour:
${laneNames.map(([name, what]) => `  ${name.padEnd(12)} ${what}`).join("\n")}

  --pair     only these, each two of: ${formats.join(", ")}
  --profile  writes what the gateway spent its time on (V8's .cpuprofile)
  --quick    short rounds: shows that everything runs
`;

/** @returns undefined when help was asked for, or what is asked is not known */
export function readOptions(args: readonly string[]): Options | undefined {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        pair: { type: "string", multiple: true },
        profile: { type: "string" },
        quick: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) return undefined;
    const names = laneNames.map(([name]) => name);
    return {
      lanes: positionals.length === 0 ? names : positionals.map((text) => oneOf(names, text)),
      pairs: values.pair?.map(toPair),
      profile: values.profile,
      quick: values.quick,
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n`);
    return undefined;
  }
}

function toPair(text: string): Pair {
  const [client = "", upstream = ""] = text.split(":");
  return {
    client: oneOf(formats, client),
    upstream: oneOf([...formats, "openai-like"] as const, upstream),
  };
}
