import { expect, test } from "vitest";
import type { Contestant } from "./contestant.ts";
import { compare, takeTurns } from "./rounds.ts";

test("entries take turns, and the order turns from round to round", async () => {
  const order: string[] = [];
  const entry = <Name extends string>(name: Name) => ({
    name,
    measure: async (round: number) => {
      order.push(`${name}${round}`);
      return round;
    },
  });
  const figures = await takeTurns([entry("a"), entry("b")], 2);
  expect(order).toEqual(["a-1", "b-1", "a0", "b0", "b1", "a1"]);
  expect(figures).toEqual({ a: [0, 1], b: [0, 1] });
});

test("the fastest peer counts, and one that is far behind takes part in the warm-up alone", async () => {
  const speeds: Record<string, number> = { ours: 30, quick: 20, near: 19, slow: 5 };
  const contestant = (name: string) => ({ name }) as Contestant;
  const calls: Record<string, number> = {};
  const { ours, peer, peerName, notes } = await compare(
    contestant("ours"),
    ["slow", "near", "quick"].map(contestant),
    {
      rounds: 2,
      measure: async ({ name }) => {
        calls[name] = (calls[name] ?? 0) + 1;
        return speeds[name] ?? 0;
      },
    },
  );
  expect({ ours, peer, peerName }).toEqual({ ours: [30, 30], peer: [20, 20], peerName: "quick" });
  expect(calls).toEqual({ ours: 3, quick: 3, near: 3, slow: 1 });
  expect(notes).toEqual(["near 19.0", "slow 5.00 in the warm-up"]);
});

test("a peer that dies is said to, and the others go on without it", async () => {
  const contestant = (name: string) => ({ name }) as Contestant;
  const { peerName, notes } = await compare(
    contestant("ours"),
    ["dying", "sound"].map(contestant),
    {
      rounds: 1,
      measure: async ({ name }) => {
        if (name === "dying") throw new Error("ended by SIGSEGV");
        return 1;
      },
    },
  );
  expect({ peerName, notes }).toEqual({
    peerName: "sound",
    notes: ["dying failed: ended by SIGSEGV"],
  });
});
