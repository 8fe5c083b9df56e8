/** A cable between a process and a server that it needs: to be pulled out and put back in, held shut, or made long. */

import type { AddressInfo } from "node:net";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export type Cable = {
  /** The given URL with this end of the cable as its host and port. */
  url: string;
  /** Connections break, and new ones are refused. */
  pull(): Promise<void>;
  plug(): Promise<void>;
  /** Connections stay open and nothing passes, either way, until it is let go. */
  hold(): void;
  letGo(): void;
  /** From now on everything takes so long each way; 0 ends that. */
  stretch(ms: number): void;
};

/** @param target the URL of a server that speaks over TCP, such as `postgres://…` */
export async function layCable(target: string, defaultPort: number): Promise<Cable> {
  const { hostname, port } = new URL(target);
  const open = new Set<Socket>();
  let isHeld: Promise<void> | undefined;
  let letGo = () => {};
  let delayMs = 0;
  const carry = async (from: Socket, to: Socket) => {
    for await (const chunk of from) {
      if (delayMs > 0) await sleep(delayMs);
      await isHeld;
      if (to.destroyed) return;
      if (!to.write(chunk)) {
        await new Promise((resolve) => {
          to.once("drain", resolve);
          to.once("close", resolve);
        });
      }
    }
    to.end();
  };
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
      carry(socket, other).catch(() => other.destroy());
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
    hold() {
      isHeld ??= new Promise((resolve) => {
        letGo = resolve;
      });
    },
    letGo() {
      letGo();
      isHeld = undefined;
    },
    stretch(ms) {
      delayMs = ms;
    },
  };
}
