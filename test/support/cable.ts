/** A cable between a process and a server that it needs, to be pulled out and put back in. */

import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";

export type Cable = {
  /** The given URL with this end of the cable as its host and port. */
  url: string;
  /** Connections break, and new ones are refused. */
  pull(): Promise<void>;
  plug(): Promise<void>;
};

/** @param target the URL of a server that speaks over TCP, such as `postgres://…` */
export async function layCable(target: string, defaultPort: number): Promise<Cable> {
  const { hostname, port } = new URL(target);
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(Number(port || defaultPort), hostname);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        open.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  const listen = (at: number) =>
    new Promise<void>((resolve) => server.listen(at, "127.0.0.1", resolve));
  await listen(0);
  const address = server.address() as AddressInfo;
  const url = new URL(target);
  url.hostname = "127.0.0.1";
  url.port = String(address.port);
  return {
    url: url.href,
    async pull() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of open) socket.destroy();
      await closed;
    },
    plug: () => listen(address.port),
  };
}
