/** What a key of one's own may be, together with what the project says of all such keys. */
import { describe, expect, test } from "vitest";
import { createOwnKey } from "../../sdk/protocol/admin.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { withinCeiling } from "./ceiling.ts";

const projectId = newId("proj");
const ask = (more: object) => createOwnKey.parse({ name: "k", projectId, ...more });
const ceiling = { keysMax: 1 };

describe("a key that would hold more than any key may, once the ceiling's are added, is refused", () => {
  test("budgets", () => {
    const own = (count: number) =>
      ask({
        budgets: Array.from({ length: count }, (_, n) => ({
          limitUsd: "1",
          period: "day",
          models: [`m${n}`],
        })),
      });
    const bounded = { ...ceiling, budgets: [{ limitUsd: "5", period: "day" as const }] };
    expect(withinCeiling(own(49), bounded).budgets).toHaveLength(50);
    expect(() => withinCeiling(own(50), bounded)).toThrow(
      expect.objectContaining({ code: "invalid_value", param: "budgets" }),
    );
  });

  test("rules of limits", () => {
    const own = (count: number) =>
      ask({
        limits: {
          rules: Array.from({ length: count }, (_, n) => ({
            kind: "requests",
            limit: 1,
            models: [`m${n}`],
          })),
        },
      });
    const rule = { kind: "requests" as const, limit: 500, windowSeconds: 86_400, each: [] };
    const bounded = { ...ceiling, limits: { rules: [rule] } };
    expect(withinCeiling(own(19), bounded).limits.rules).toHaveLength(20);
    expect(() => withinCeiling(own(20), bounded)).toThrow(
      expect.objectContaining({ code: "invalid_value", param: "limits.rules" }),
    );
  });
});
