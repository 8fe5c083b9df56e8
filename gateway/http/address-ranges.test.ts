import { expect, test } from "vitest";
import { addressRange } from "../../sdk/protocol/catalog.ts";
import { openRanges, plainAddress } from "./address-ranges.ts";

test.each([
  [["10.0.0.0/8"], "10.200.3.4", true],
  [["10.0.0.0/8"], "11.0.0.1", false],
  [["10.0.0.0/8"], "::ffff:10.1.2.3", true],
  [["192.0.2.7"], "192.0.2.7", true],
  [["192.0.2.7"], "192.0.2.8", false],
  [["2001:db8::/32"], "2001:db8:1::5", true],
  [["2001:db8::/32"], "2001:db9::1", false],
  [["0.0.0.0/0"], "2001:db8::1", false],
  [["::1", "127.0.0.0/8"], "127.0.0.1", true],
  [["10.0.0.0/8"], "no address", false],
  [[], "10.0.0.1", false],
])("%j and %s: %s", (ranges, address, included) => {
  expect(openRanges(ranges).include(address)).toBe(included);
});

test.each(["10.0.0.0/33", "10.0.0/8", "2001:db8::/129", "example.com", "", "10.0.0.1/-1"])(
  "'%s' is no range",
  (text) => expect(addressRange.safeParse(text).success).toBe(false),
);

test("an interface's name and IPv4's place in IPv6 are taken off", () => {
  expect(plainAddress("fe80::1%eth0")).toBe("fe80::1");
  expect(plainAddress("::FFFF:192.0.2.1")).toBe("192.0.2.1");
});
