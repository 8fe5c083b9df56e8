/** Which addresses lie in ranges as `addressRange` has them: `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`. */
import { BlockList, isIP } from "node:net";

export type AddressRanges = { include(address: string): boolean };

/** An IPv4 address within IPv6, as Node tells it of a dual-stack socket, counts as IPv4. */
export function openRanges(ranges: readonly string[]): AddressRanges {
  // Mostly there are none, and looking into an empty list costs as much as into a full one.
  if (ranges.length === 0) return { include: () => false };
  const list = new BlockList();
  for (const text of ranges) {
    const range = parseRange(text);
    if (range) list.addSubnet(range.address, range.bits, range.family);
  }
  return {
    include(address) {
      const plain = plainAddress(address);
      const version = isIP(plain);
      return version !== 0 && list.check(plain, version === 4 ? "ipv4" : "ipv6");
    },
  };
}

/** `::ffff:192.0.2.7` as `192.0.2.7`, and without an interface's name. */
export function plainAddress(address: string): string {
  const [bare = ""] = address.split("%", 1);
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.[1];
  return mapped ?? bare;
}

function parseRange(text: string) {
  const [address = "", length] = text.split("/", 2);
  const version = isIP(address);
  if (version === 0) return undefined;
  const bits = length === undefined ? (version === 4 ? 32 : 128) : Number(length);
  return { address, bits, family: version === 4 ? "ipv4" : "ipv6" } as const;
}
