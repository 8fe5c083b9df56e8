/** Streams that are translated, against streams of the same upstream that pass: as many at a time, as fast as they go. */
import { resultOf } from "../../engine/result.ts";
import { ask } from "../clients.ts";
import type { Pair } from "../options.ts";
import type { Setting } from "../setting.ts";
import { formats, type WireFormat } from "../wire.ts";
import type { Lane } from "./table.ts";

const streamsAtOnce = 32;
/** Sixty of a hundred: translating costs at most forty. */
const target = 0.6;

export const cost: Lane = async function* (setting) {
  const rounds = setting.full(3, 1);
  const gateway = await setting.openGateway();
  const through = ({ client, upstream }: Pair, seconds: number) =>
    rate(setting, client, seconds, {
      origin: gateway.url,
      key: setting.apiKey,
      model: `${upstream}-fast`,
    });
  try {
    const pairs = setting.pairs ?? translatedPairs();
    for (const pair of pairs) {
      const passing = passingOf(pair);
      await through(pair, setting.full(2, 0.5));
      await through(passing, setting.full(2, 0.5));
      const translated: number[] = [];
      const passed: number[] = [];
      const direct: number[] = [];
      for (let round = 0; round < rounds; round++) {
        setting.tell(`${pair.client} of ${pair.upstream}, round ${round + 1} of ${rounds}`);
        const seconds = setting.full(2, 0.5);
        const sides = [
          async () => translated.push(await through(pair, seconds)),
          async () => passed.push(await through(passing, seconds)),
          async () =>
            direct.push(
              await rate(setting, passing.client, seconds, {
                origin: setting.upstreamUrl,
                key: "sk-bench-upstream",
                model: "bench-fast",
              }),
            ),
        ];
        for (const side of round % 2 === 0 ? sides : sides.toReversed()) await side();
      }
      const times = Math.max(...direct) / Math.max(...passed);
      yield resultOf({
        name: `${pair.client} of ${pair.upstream}, against passed`,
        unit: "streams/s",
        ours: translated,
        peer: passed,
        target,
        notes: [`the upstream itself: ${times.toFixed(1)} times what passed`],
      });
    }
  } finally {
    await gateway.stop();
  }
};

/** Each dialect with each format that is not its own, and chats that are mended. */
function translatedPairs(): Pair[] {
  return [
    ...formats.flatMap((client) =>
      formats.filter((format) => format !== client).map((upstream) => ({ client, upstream })),
    ),
    { client: "openai-chat", upstream: "openai-like" },
  ];
}

function passingOf({ upstream }: Pair): { client: WireFormat; upstream: WireFormat } {
  const format = upstream === "openai-like" ? "openai-chat" : upstream;
  return { client: format, upstream: format };
}

async function rate(
  setting: Setting,
  dialect: WireFormat,
  seconds: number,
  to: { origin: string; key: string; model: string },
): Promise<number> {
  const { ended, elapsedMs } = await setting.load({
    asked: ask(dialect, to),
    streams: streamsAtOnce,
    seconds,
    spreadMs: 0,
  });
  return (1000 * ended) / elapsedMs;
}
