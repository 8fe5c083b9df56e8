/** What the gateway's process holds in memory: through a million requests, and through a storm of clients that leave. */
import { setTimeout as sleep } from "node:timers/promises";
import { boundedResult, type Result } from "../../engine/result.ts";
import { type Bar, drawBars } from "../../plot.ts";
import { bearer, chatAt, type RunningGateway, type Setting } from "../setting.ts";
import { crowd } from "../turns.ts";
import type { Lane } from "./table.ts";

const residentMbMax = 250;
/** Within a tenth of what it held before. */
const flatShareMax = 1.1;
const sampleMs = 50;
/** Points of the curve that is drawn. */
const pointsMax = 20;

export const requests: Lane = async function* (setting) {
  const policy = await setting.policy();
  const gateway = await setting.openGateway({ policy });
  try {
    const asked = chatAt(gateway.url, bearer(policy.governedKey));
    const { requests: all } = setting;
    const piece = Math.ceil(all / 50);
    const watch = watchMemory(gateway);
    const points: { requests: number; mb: number }[] = [];
    for (let sent = 0; sent < all; ) {
      const next = Math.min(piece, all - sent);
      const order = { asked, concurrency: crowd, seconds: 3600, requests: next };
      const { answered, elapsedMs } = await setting.load(order);
      sent += answered;
      points.push({ requests: sent, mb: gateway.residentMb() });
      const rate = Math.round((1000 * answered) / elapsedMs);
      setting.tell(`${sent} of ${all}, ${rate}/s, ${gateway.residentMb().toFixed(0)} MB`);
    }
    const peak = watch.stop();
    const bars = points
      .filter((_, index) => index % Math.ceil(points.length / pointsMax) === 0)
      .map(({ requests, mb }) => ({
        label: String(requests),
        value: mb,
        note: `${mb.toFixed(0)} MB`,
      }));
    yield peaked(`${all} requests: resident at its peak`, peak, drawBars(bars));
    // What is compiled, and caches that are bounded, come with the first requests.
    const warm = least(points.slice(0, Math.ceil(points.length / 5)));
    const late = least(points.slice(-Math.ceil(points.length / 5)));
    yield flat(`${all} requests: resident in the last fifth, against the first`, late, warm);
  } finally {
    await gateway.stop();
  }
};

export const storm: Lane = async function* (setting) {
  const policy = await setting.policy();
  const gateway = await setting.openGateway({ policy });
  try {
    const asked = chatAt(gateway.url, bearer(policy.governedKey), { stream: true });
    const clients = setting.full(1000, 50);
    const curve: Bar[] = [];
    const point = (label: string) => {
      const mb = gateway.residentMb();
      curve.push({ label, value: mb, note: `${mb.toFixed(0)} MB` });
    };
    // One before those that count: what a process keeps of its first is not given back by the next.
    await setting.storm({ asked, clients });
    const before = await settle(setting, gateway);
    point("before");
    const watch = watchMemory(gateway);
    let left = 0;
    let begun = 0;
    for (let wave = 1; wave <= 5; wave++) {
      setting.tell(`wave ${wave} of 5: ${clients} clients leave`);
      const report = await setting.storm({ asked, clients });
      left += report.left;
      begun += report.begun;
      point(`wave ${wave}`);
    }
    const peak = watch.stop();
    const after = await settle(setting, gateway);
    point("after");
    const open = await inFlight(gateway);
    const name = `${left} clients leave, ${begun} of them in mid-stream`;
    yield peaked(`${name}: resident at its peak`, peak, drawBars(curve));
    yield flat(`${left} clients leave: resident afterwards, against before`, after, before);
    yield boundedResult({
      name: `${left} clients leave: requests that are not settled afterwards, and one`,
      unit: "requests",
      ours: open + 1,
      bound: 1,
    });
  } finally {
    await gateway.stop();
  }
};

/** The most that was seen until it is stopped. */
function watchMemory(gateway: RunningGateway): { stop(): number } {
  let peak = gateway.residentMb();
  const timer = setInterval(() => {
    peak = Math.max(peak, gateway.residentMb());
  }, sampleMs);
  return {
    stop() {
      clearInterval(timer);
      return peak;
    },
  };
}

/** The least of half a minute: garbage is collected, and pages are given back, in their own time. */
async function settle(setting: Setting, gateway: RunningGateway): Promise<number> {
  let smallest = gateway.residentMb();
  for (let waitedMs = 0; waitedMs < setting.full(30_000, 1000); waitedMs += 500) {
    await sleep(500);
    smallest = Math.min(smallest, gateway.residentMb());
  }
  return smallest;
}

async function inFlight({ url }: RunningGateway): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^gateway_requests_in_flight (\d+)/m.exec(text)?.[1]);
}

function least(points: readonly { mb: number }[]): number {
  return Math.min(...points.map(({ mb }) => mb));
}

function peaked(name: string, ours: number, notes: string[]): Result {
  return boundedResult({ name, unit: "MB", ours, bound: residentMbMax, notes });
}

function flat(name: string, ours: number, before: number): Result {
  const notes = [`${before.toFixed(0)} MB before`];
  return boundedResult({ name, unit: "MB", ours, bound: before * flatShareMax, notes });
}
