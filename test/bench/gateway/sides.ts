/** Who is asked the same request in turn: the upstream itself, a bare proxy, Switchyard governed and not, other gateways. */
import { processorMs } from "../process-time.ts";
import { startLane } from "../start-lane.ts";
import { howToGetPeers, startPeers } from "./peers.ts";
import type { Asked } from "./raw-http.ts";
import { bearer, chatAt, type Setting } from "./setting.ts";

export type SideName =
  | "direct"
  | "bare Hono proxy"
  | "Switchyard"
  | "Switchyard, no limits"
  | "Portkey"
  | "LiteLLM";

export type Side = {
  name: SideName;
  asked: Asked;
  /** Processor time that its process has used. */
  processorMs(): number;
};

export async function openSides(
  setting: Setting,
): Promise<{ sides: Side[]; close(): Promise<void> }> {
  const { upstream, folder } = setting;
  const policy = await setting.policy();
  const ours = await setting.openGateway({ policy });
  const bare = await startLane(new URL("../lanes/bare-proxy.ts", import.meta.url), {
    UPSTREAM: upstream.url,
  });
  const peers = await startPeers({ origin: upstream.url, key: upstream.key, folder });
  if (peers.length < 2) console.log(howToGetPeers);
  const own = (key: string, model: string) => chatAt(ours.url, bearer(key), { model });
  return {
    sides: [
      {
        name: "direct",
        asked: chatAt(upstream.url, bearer(upstream.key)),
        processorMs: upstream.processorMs,
      },
      {
        name: "bare Hono proxy",
        asked: chatAt(bare.said, bearer(upstream.key)),
        processorMs: () => processorMs(bare.pid),
      },
      {
        name: "Switchyard",
        asked: own(policy.governedKey, "bench-model"),
        processorMs: ours.processorMs,
      },
      {
        name: "Switchyard, no limits",
        asked: own(policy.freeKey, "bench-free"),
        processorMs: ours.processorMs,
      },
      ...peers.map(({ name, origin, pid, headers }) => ({
        name,
        asked: chatAt(origin, headers),
        processorMs: () => processorMs(pid),
      })),
    ],
    async close() {
      await ours.stop();
      for (const peer of peers) peer.stop();
      bare.stop();
    },
  };
}
