/** Many streams whose deltas come at a model's pace: what the gateway adds to the first, and to the gaps between them. */
import { boundedResult } from "../../engine/result.ts";
import { median, quantile, round } from "../../report.ts";
import { ask } from "../clients.ts";
import type { Pair } from "../options.ts";
import type { LoadReport } from "../programs/load.ts";
import type { Lane } from "./table.ts";

const streamsAtOnce = 500;
const firstMsMax = 5;
const gapMsMax = 2;
/** About as long as a stream: so that they begin evenly, and not in step. */
const spreadMs = 1300;

export const pace: Lane = async function* (setting) {
  const rounds = setting.full(3, 1);
  const gateway = await setting.openGateway();
  try {
    for (const { client, upstream } of setting.pairs ?? pairs) {
      const native = upstream === "openai-like" ? "openai-chat" : upstream;
      const seconds = setting.full(6, 2);
      const sides = {
        direct: ask(native, {
          origin: setting.upstreamUrl,
          key: "sk-bench-upstream",
          model: "bench-paced",
        }),
        ours: ask(client, {
          origin: gateway.url,
          key: setting.apiKey,
          model: `${upstream}-paced`,
        }),
      };
      const seen: Record<keyof typeof sides, LoadReport[]> = { direct: [], ours: [] };
      for (let at = 0; at < rounds; at++) {
        setting.tell(`${client} of ${upstream}, round ${at + 1} of ${rounds}`);
        const order: (keyof typeof sides)[] =
          at % 2 === 0 ? ["direct", "ours"] : ["ours", "direct"];
        for (const side of order) {
          const load = { asked: sides[side], streams: streamsAtOnce, seconds, spreadMs };
          seen[side].push(await setting.load(load));
        }
      }
      const how = client === upstream ? "passed" : "translated";
      for (const [what, times, bound] of [
        ["first delta", "firstDeltaMs", firstMsMax],
        ["gap", "gapsMs", gapMsMax],
      ] as const) {
        const at = (side: keyof typeof sides, share: number) =>
          seen[side].map((report) => quantile(report[times], share));
        const added = at("ours", 0.99).map((ms, index) => ms - (at("direct", 0.99)[index] ?? 0));
        const of = (side: keyof typeof sides) =>
          [0.5, 0.99].map((share) => round(median(at(side, share)))).join(" and ");
        yield boundedResult({
          name: `${client} of ${upstream}, ${how}: ${what}, p99 added`,
          unit: "ms",
          ours: Math.max(0.001, median(added)),
          bound,
          notes: [`p50 and p99: ${of("ours")} ms, of the upstream itself ${of("direct")} ms`],
        });
      }
    }
  } finally {
    await gateway.stop();
  }
};

/** Each dialect and each format once as another's, and one that passes. */
const pairs: readonly Pair[] = [
  { client: "openai-chat", upstream: "openai-chat" },
  { client: "anthropic-messages", upstream: "openai-chat" },
  { client: "openai-chat", upstream: "anthropic-messages" },
  { client: "openai-responses", upstream: "gemini" },
  { client: "gemini", upstream: "bedrock-converse" },
  { client: "bedrock-converse", upstream: "openai-responses" },
];
