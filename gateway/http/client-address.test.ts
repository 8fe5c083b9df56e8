import type { Socket } from "node:net";
import { expect, test } from "vitest";
import { openRanges } from "./address-ranges.ts";
import { clientAddressOf, noteClientAddress } from "./client-address.ts";

test.each([
  ["the connection's, where it is no proxy's", "203.0.113.9", "1.2.3.4", "203.0.113.9"],
  ["the client's, behind a proxy", "::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4"],
  ["the client's, behind two", "10.0.0.1", "1.2.3.4, 10.0.0.2", "1.2.3.4"],
  [
    "what the first proxy saw, whatever was written before it",
    "10.0.0.1",
    "6.6.6.6, 1.2.3.4",
    "1.2.3.4",
  ],
  ["the proxy's, where it says nothing", "10.0.0.1", undefined, "10.0.0.1"],
])("an address is %s", (_what, remoteAddress, forwarded, expected) => {
  const headers = forwarded === undefined ? {} : { "x-forwarded-for": forwarded };
  const request = new Request("http://gateway");
  const socket = { remoteAddress } as Socket;
  noteClientAddress(request, { socket, headers }, openRanges(["10.0.0.0/8"]));
  expect(clientAddressOf(request)).toBe(expected);
});
