import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { anySignal } from "./any-signal.ts";

async function collectGarbage(): Promise<void> {
  setFlagsFromString("--expose-gc");
  // Weak references that were looked at hold until the next turn.
  await new Promise((resolve) => setImmediate(resolve));
  (runInNewContext("gc") as () => void)();
}

test("a timeout comes, whether or not anybody else holds it", async () => {
  const heard = new Promise<unknown>((resolve) => {
    const any = anySignal([new AbortController().signal, AbortSignal.timeout(100)]);
    any.addEventListener("abort", () => resolve(any.reason));
  });
  await collectGarbage();
  expect(await heard).toMatchObject({ name: "TimeoutError" });
});

test("an abort is known after its controller was collected", async () => {
  const any = (() => {
    const stop = new AbortController();
    const following = anySignal([stop.signal]);
    stop.abort("stopped");
    return following;
  })();
  await collectGarbage();
  expect([any.aborted, any.reason]).toEqual([true, "stopped"]);
});

test("what is followed is collected with the signal that follows it", async () => {
  const source = new AbortController();
  const refs = (() => {
    const other = new AbortController();
    const any = anySignal([source.signal, other.signal]);
    return [new WeakRef(other.signal), new WeakRef(any)];
  })();
  await collectGarbage();
  expect(refs.map((ref) => ref.deref())).toEqual([undefined, undefined]);
});
