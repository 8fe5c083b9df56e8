/** Requests at full load while somebody looks at the dashboard, against while nobody does. */
import { setTimeout as sleep } from "node:timers/promises";
import { boundedResult } from "../../engine/result.ts";
import { median, quantile } from "../../report.ts";
import { bearer, chatAt } from "../setting.ts";
import { crowd } from "../turns.ts";
import type { Lane } from "./table.ts";

const addedMsMax = 1;
/** A page asks three questions every twenty seconds; this is a page that somebody clicks through without rest. */
const pauseMs = 500;
/** What the dashboard's page asks. */
const pages = ["/api/reports/costs?group_by=model", "/api/reports/costs", "/api/requests?limit=15"];

export const dashboard: Lane = async function* (setting) {
  const policy = await setting.policy();
  const gateway = await setting.openGateway({ policy });
  try {
    const asked = chatAt(gateway.url, bearer(policy.governedKey));
    const load = async () => {
      const seconds = setting.full(6, 1);
      return quantile(
        (await setting.load({ asked, concurrency: crowd, seconds })).latenciesMs,
        0.99,
      );
    };
    setting.tell("requests to look at");
    await setting.load({ asked, concurrency: crowd, seconds: setting.full(10, 1) });
    const rounds = setting.full(9, 1);
    const quiet: number[] = [];
    const watched: number[] = [];
    let answers = 0;
    for (let round = 0; round < rounds; round++) {
      setting.tell(`round ${round + 1} of ${rounds}`);
      const sides = [
        async () => quiet.push(await load()),
        async () => {
          const reader = readPages(gateway.url, policy.adminKey);
          watched.push(await load());
          answers += await reader.stop();
        },
      ];
      for (const side of round % 2 === 0 ? sides : sides.toReversed()) await side();
    }
    const added = watched.map((ms, index) => ms - (quiet[index] ?? Number.NaN));
    yield boundedResult({
      name: `p99 of ${crowd} clients: added while reports are read`,
      unit: "ms",
      ours: Math.max(0.001, median(added)),
      bound: addedMsMax,
      notes: [
        `${answers} reports; p99 ${median(quiet).toFixed(2)} ms without, ${median(watched).toFixed(2)} ms with`,
        `${Math.min(...added).toFixed(2)} to ${Math.max(...added).toFixed(2)}`,
      ],
    });
  } finally {
    await gateway.stop();
  }
};

/** @returns how many were read, once it is told to stop */
function readPages(url: string, adminKey: string): { stop(): Promise<number> } {
  let stopped = false;
  let answers = 0;
  const reading = (async () => {
    while (!stopped) {
      for (const page of pages) {
        const response = await fetch(url + page, { headers: bearer(adminKey) });
        const text = await response.text();
        if (!response.ok) throw new Error(`${page} answered ${response.status}: ${text}`);
        answers++;
      }
      await sleep(pauseMs);
    }
  })();
  // Should it fail, that is told when it is asked to stop.
  reading.catch(() => {});
  return {
    async stop() {
      stopped = true;
      await reading;
      return answers;
    },
  };
}
