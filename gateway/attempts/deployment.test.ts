import { expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { readAdapterServerError } from "../providers/adapter-server/errors.ts";
import type { Provider } from "../providers/provider.ts";
import { outOfQuota } from "../providers/upstream-words.ts";
import { Breaker } from "./breaker.ts";
import { Deployment, type Turn } from "./deployment.ts";

function open() {
  const clock = { ms: 0 };
  const now = () => clock.ms;
  const options = { failures: 2, openMs: 100, openMsMax: 400, now };
  const [address, keyA, keyB] = [
    options,
    { ...options, failures: 1 },
    { ...options, failures: 1 },
  ].map((it) => new Breaker(it)) as [Breaker, Breaker, Breaker];
  const shared = { provider: {} as Provider, weight: 1, tier: 0, address, parkMs: 50, now };
  const a = new Deployment({ ...shared, name: "a", key: keyA });
  const b = new Deployment({ ...shared, name: "b", key: keyB });
  const enter = (deployment: Deployment) => deployment.enter("m") as Turn;
  return { clock, a, b, enter };
}
const broken = new HubError("upstream_error", "it broke");
const limited = (retryAfterMs?: number) =>
  new HubError("rate_limit_exceeded", "slowly", { retryAfterMs });

test("an address that fails is left alone with all its keys, a key that is refused alone", () => {
  const { a, b, enter } = open();
  enter(a).fail(broken, true);
  enter(b).fail(broken, true);
  expect([a.retryAfterMs(), b.retryAfterMs()]).toEqual([100, 100]);

  for (const error of [new HubError("upstream_auth_failed", "no"), outOfQuota("empty")]) {
    const other = open();
    other.enter(other.a).fail(error, true);
    expect([other.a.retryAfterMs(), other.b.retryAfterMs()]).toEqual([100, undefined]);
  }
});

test("exactly one call finds out, whatever becomes of those that began before", () => {
  const { clock, a, enter } = open();
  const old = [enter(a), enter(a), enter(a), enter(a)];
  old[0]?.fail(broken, true);
  old[1]?.fail(broken, true);
  clock.ms = 100;
  const probe = enter(a);
  expect(a.enter("m")).toBeUndefined();
  old[2]?.abandon();
  expect(a.enter("m")).toBeUndefined();
  old[3]?.fail(broken, true);
  expect(a.enter("m")).toBeUndefined();
  probe.succeed();
  expect(a.state).toBe("closed");
  expect(a.inFlight).toBe(0);
});

test("a probe that its client leaves lets the next one find out", () => {
  const { clock, a, enter } = open();
  for (const turn of [enter(a), enter(a)]) turn.fail(broken, true);
  clock.ms = 100;
  enter(a).abandon();
  enter(a).fail(broken, true);
  expect(a.retryAfterMs()).toBe(200);
});

test("what one project's crowd is refused by our own engine parks nothing for others", () => {
  const { a, enter } = open();
  const body = new TextEncoder().encode('{"error": {"message": "Too many of yours wait."}}');
  const header = (name: string) => (name === "retry-after-ms" ? "1000" : undefined);
  const error = readAdapterServerError({ status: 429, header }, body, "embedded");
  expect(error).toMatchObject({ code: "rate_limit_exceeded", retryAfterMs: 1000 });
  enter(a).fail(error, true);
  expect(a.isParked("m")).toBe(false);
  expect(a.retryAfterMs()).toBeUndefined();
});

test("our own engine that says it is full, or about to stop, rests and is not taken for ill", () => {
  const { clock, a, enter } = open();
  const header = (name: string) => (name === "retry-after-ms" ? "1000" : undefined);
  const read = (code: string) => {
    const body = new TextEncoder().encode(JSON.stringify({ error: { message: "Later.", code } }));
    return readAdapterServerError({ status: 503, header }, body, "embedded");
  };
  for (const code of ["server_is_overloaded", "shutting_down"]) {
    expect(read(code)).toMatchObject({ code, retryAfterMs: 1000 });
    for (let i = 0; i < 10; i++) enter(a).fail(read(code), true);
    expect([a.state, a.isParked("m"), a.isParked("n")]).toEqual(["closed", true, false]);
    clock.ms += 1000;
    expect(a.isParked("m")).toBe(false);
  }
  // A 503 that says nothing of the kind may be anything.
  enter(a).fail(read("database_unavailable"), true);
  enter(a).fail(read("database_unavailable"), true);
  expect(a.state).toBe("open");
});

test("a limit is of a key and a model, and ends when it was said to", () => {
  const { clock, a, b, enter } = open();
  enter(a).fail(limited(1000), true);
  expect([a.isParked("m"), a.isParked("n"), b.isParked("m")]).toEqual([true, false, false]);
  clock.ms = 999;
  expect(a.isParked("m")).toBe(true);
  clock.ms = 1000;
  expect(a.isParked("m")).toBe(false);
  enter(a).fail(limited(), true);
  clock.ms = 1049;
  expect(a.isParked("m")).toBe(true);
  clock.ms = 1050;
  expect(a.isParked("m")).toBe(false);
  expect(a.retryAfterMs()).toBeUndefined();
});

test("a peak is believed at once and forgotten slowly, and failing quickly is not being quick", () => {
  const { clock, a, enter } = open();
  const take = (ms: number, end: (turn: Turn) => void) => {
    const turn = enter(a);
    clock.ms += ms;
    end(turn);
  };
  const answer = (turn: Turn) => {
    turn.begun();
    turn.succeed();
  };
  take(100, answer);
  take(1000, answer);
  expect(a.latencyMs).toBe(1000);
  take(100, answer);
  expect(a.latencyMs).toBeGreaterThan(900);
  clock.ms += 60_000;
  take(100, answer);
  expect(a.latencyMs).toBeLessThan(110);
  take(1, (turn) => turn.fail(broken, true));
  expect(a.latencyMs).toBeGreaterThan(190);
});

test("an end is told once", () => {
  const { a, enter } = open();
  const turn = enter(a);
  turn.succeed();
  turn.fail(broken, true);
  turn.abandon();
  expect([a.inFlight, a.state]).toEqual([0, "closed"]);
});
