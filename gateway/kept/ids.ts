/** Ids of what is kept under OpenAI's prefixes. */
import { newId } from "../../sdk/protocol/ids.ts";

/** @param prefix such as `conv` */
export function keptId(prefix: string, nowMs: number): string {
  return `${prefix}_${newId("req", nowMs).slice("req_".length)}`;
}
