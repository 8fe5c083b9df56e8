import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { keepTrying } from "./keep-trying.ts";

test("tries never overlap, go on after failures, and end with the first success", async () => {
  const failures: unknown[] = [];
  let [tries, underWay, most] = [0, 0, 0];
  const done = new Promise<void>((resolve) => {
    const attempt = async () => {
      most = Math.max(most, ++underWay);
      // Longer than the wait between two tries, as a connection that times out is.
      await sleep(10);
      underWay--;
      if (++tries < 4) throw new Error(`try ${tries}`);
      resolve();
    };
    keepTrying(attempt, { everyMs: 1, onFailure: (error) => failures.push(error) });
  });
  await done;
  await sleep(30);
  expect({ tries, most, failures: failures.length }).toEqual({ tries: 4, most: 1, failures: 3 });
});

test("stopping waits for the try under way and begins no other", async () => {
  let [begun, ended] = [0, 0];
  const attempt = async () => {
    begun++;
    await sleep(20);
    ended++;
    throw new Error("not yet");
  };
  const stop = keepTrying(attempt, { everyMs: 1, onFailure: () => {} });
  while (begun === 0) await sleep(1);
  await stop();
  expect([begun, ended]).toEqual([1, 1]);
});
