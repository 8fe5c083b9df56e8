import fc from "fast-check";
import { expect, test } from "vitest";
import { formatUsd, parseUsd, showUsd, usdString } from "./money.ts";

const amount = fc.bigInt({ min: -(10n ** 38n) + 1n, max: 10n ** 38n - 1n });

test("$0.15 for a million tokens is exactly 150 000 pico-dollars for one", () => {
  expect(parseUsd("0.00000015")).toBe(150_000n);
});

test("an amount that is written is read back exactly, and is valid on the wire", () => {
  fc.assert(
    fc.property(amount, (pico) => {
      const text = formatUsd(pico);
      expect(parseUsd(text)).toBe(pico);
      expect(usdString.safeParse(text).success).toBe(true);
    }),
  );
});

test("what is no amount of at most 12 places is refused, and never rounded", () => {
  for (const text of [
    "",
    "1.",
    ".5",
    "1e-3",
    "+1",
    "1,000",
    "0.0000000000001",
    "NaN",
    " 1",
    "0x1",
  ]) {
    expect(() => parseUsd(text)).toThrow(RangeError);
    expect(usdString.safeParse(text).success).toBe(false);
  }
});

test("amounts are written without trailing zeros", () => {
  expect(formatUsd(0n)).toBe("0");
  expect(formatUsd(10n ** 12n)).toBe("1");
  expect(formatUsd(-1_500_000_000_000n)).toBe("-1.5");
  expect(formatUsd(1n)).toBe("0.000000000001");
});

test("what people see is rounded half to even, once", () => {
  expect(showUsd(parseUsd("0.0000005"))).toBe("$0.000000");
  expect(showUsd(parseUsd("0.0000015"))).toBe("$0.000002");
  expect(showUsd(parseUsd("0.000000500001"))).toBe("$0.000001");
  expect(showUsd(parseUsd("-2.5"), 0)).toBe("-$2");
  expect(showUsd(parseUsd("3.5"), 0)).toBe("$4");
  expect(showUsd(parseUsd("0.005"), 2)).toBe("$0.00");
  expect(showUsd(parseUsd("12.345678901234"), 12)).toBe("$12.345678901234");
});

test("rounding never moves an amount by more than half a unit", () => {
  fc.assert(
    fc.property(amount, fc.integer({ min: 0, max: 12 }), (any, places) => {
      // Rounding up may add a digit, and the amounts at the very edge have no room for one.
      const pico = any / 10n;
      const shown = parseUsd(showUsd(pico, places).replace("$", ""));
      const away = shown > pico ? shown - pico : pico - shown;
      expect(away * 2n <= 10n ** BigInt(12 - places)).toBe(true);
    }),
  );
});
