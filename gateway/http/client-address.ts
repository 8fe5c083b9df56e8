/** Where a request came from, as far as the server can know. */
import type { IncomingMessage } from "node:http";
import { type AddressRanges, plainAddress } from "./address-ranges.ts";

/**
 * @param request as it goes through the gateway, or as a connection that asks to become a WebSocket
 * @returns undefined for a request that no server took in
 */
export function clientAddressOf(request: Request | IncomingMessage): string | undefined {
  return addresses.get(request);
}

/**
 * Notes the address of the connection, or where that is a trusted proxy's, what proxies say of the client:
 * the last address in `x-forwarded-for` that is no trusted proxy's. What stands before it anyone may have written.
 */
export function noteClientAddress(
  request: Request | IncomingMessage,
  { socket, headers }: Pick<IncomingMessage, "socket" | "headers">,
  trusted: AddressRanges,
): void {
  let address = plainAddress(socket.remoteAddress ?? "");
  const hops = [headers["x-forwarded-for"] ?? []].flat().join(",").split(",").filter(Boolean);
  while (trusted.include(address)) {
    const hop = hops.pop();
    if (hop === undefined) break;
    address = plainAddress(hop.trim());
  }
  addresses.set(request, address);
}

/** For a request that is made on a connection, in whose name it asks. */
export function noteSameAddress(request: Request, connection: IncomingMessage): void {
  const address = addresses.get(connection);
  if (address !== undefined) addresses.set(request, address);
}

const addresses = new WeakMap<Request | IncomingMessage, string>();
