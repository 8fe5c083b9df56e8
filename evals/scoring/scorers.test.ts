import fc from "fast-check";
import { expect, test } from "vitest";
import type { Scorer } from "../../sdk/protocol/admin.ts";
import { type Judge, openJudge } from "./scorers.ts";

test("exact compares the whole answer after trimming", async () => {
  await withJudge({ type: "exact" }, async (judge) => {
    expect(await judge.isCorrect(" card_arrival\n", "card_arrival")).toBe(true);
    expect(await judge.isCorrect("card_arrival.", "card_arrival")).toBe(false);
    expect(await judge.isCorrect("Card_arrival", "card_arrival")).toBe(false);
  });
});

test("contains wants the reference somewhere in the answer, and refuses an empty reference", async () => {
  await withJudge({ type: "contains" }, async (judge) => {
    expect(await judge.isCorrect("It is 42, I think.", " 42 ")).toBe(true);
    expect(await judge.isCorrect("It is 41.", "42")).toBe(false);
    expect(judge.refuses("  ")).toContain("empty");
  });
});

test("json compares data, not text, and an answer that is not JSON is wrong", async () => {
  await withJudge({ type: "json" }, async (judge) => {
    expect(
      await judge.isCorrect('{ "b": [1, {"c": null}], "a": 1.0 }', '{"a":1,"b":[1,{"c":null}]}'),
    ).toBe(true);
    expect(await judge.isCorrect('{"a":"1"}', '{"a":1}')).toBe(false);
    expect(await judge.isCorrect('{"a":1,"b":2}', '{"a":1}')).toBe(false);
    expect(await judge.isCorrect("[1,2]", "[2,1]")).toBe(false);
    expect(await judge.isCorrect("null", "null")).toBe(true);
    expect(await judge.isCorrect("none", "null")).toBe(false);
    expect(judge.refuses("none")).toContain("not JSON");
  });
});

test("json is right for any data written in another order of keys", async () => {
  await withJudge({ type: "json" }, async (judge) => {
    await fc.assert(
      fc.asyncProperty(fc.json(), async (text) => {
        expect(
          await judge.isCorrect(JSON.stringify(reversed(JSON.parse(text)), null, 2), text),
        ).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});

test("regex looks for the pattern in the answer", async () => {
  await withJudge({ type: "regex", pattern: "^#{4} \\d+$" }, async (judge) => {
    expect(await judge.isCorrect("#### 12", "")).toBe(true);
    expect(await judge.isCorrect("### 12", "")).toBe(false);
  });
});

test("a pattern that backtracks without end errs, and later answers are still judged", async () => {
  await withJudge({ type: "regex", pattern: "^(a+)+$" }, async (judge) => {
    const hopeless = judge.isCorrect(`${"a".repeat(60)}!`, "");
    const quick = judge.isCorrect("aaa", "");
    await expect(hopeless).rejects.toThrow("took longer than 50 ms");
    expect(await quick).toBe(true);
  });
});

test("what is no regular expression is refused before a run begins", () => {
  expect(() => openJudge({ type: "regex", pattern: "(" }, limits)).toThrow(
    "not a regular expression",
  );
});

const limits = { matchMsMax: 50 };

async function withJudge(scorer: Scorer, use: (judge: Judge) => Promise<void>): Promise<void> {
  const judge = openJudge(scorer, limits);
  try {
    await use(judge);
  } finally {
    await judge.close();
  }
}

function reversed(data: unknown): unknown {
  if (Array.isArray(data)) return data.map(reversed);
  if (typeof data !== "object" || data === null) return data;
  return Object.fromEntries(
    Object.entries(data)
      .reverse()
      .map(([key, value]) => [key, reversed(value)]),
  );
}
