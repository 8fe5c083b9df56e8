/** Reads `x-switchyard-tags`: `key=value` pairs joined by commas, which reports can group by. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { tagsHeader } from "../../sdk/protocol/http.ts";

/** @throws HubError `invalid_value` */
export function readTags(header: string | null | undefined): Record<string, string> {
  if (!header) return {};
  const pairs = header.split(",").map((pair) => /^\s*([\w.-]{1,64})=([^,]{0,256}?)\s*$/.exec(pair));
  if (pairs.length > tagsMax || pairs.some((pair) => pair === null)) {
    throw new HubError(
      "invalid_value",
      `Invalid '${tagsHeader}': expected at most ${tagsMax} pairs such as "team=support, eval=run_1".`,
      { param: tagsHeader },
    );
  }
  return Object.fromEntries(pairs.map((pair) => [pair?.[1] ?? "", pair?.[2] ?? ""]));
}

const tagsMax = 16;
