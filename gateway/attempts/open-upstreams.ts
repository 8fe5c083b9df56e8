/** Gives every upstream its breakers, its parking places and its allowances. */
import type { GatewayLimits } from "../config.ts";
import type { OpenedUpstream } from "../providers/open-providers.ts";
import { Breaker } from "./breaker.ts";
import { Deployment } from "./deployment.ts";
import { Upstream } from "./upstream.ts";

export type OpenUpstreamsOptions = {
  limits: GatewayLimits;
  now: () => number;
  random: () => number;
};

export function openUpstreams(
  opened: ReadonlyMap<string, OpenedUpstream>,
  { limits, now, random }: OpenUpstreamsOptions,
): Map<string, Upstream> {
  const { breakerFailures, breakerOpenMs: openMs, breakerOpenMsMax: openMsMax } = limits;
  const breakers = (failures: number) => {
    const made = new Map<string, Breaker>();
    return (name: string): Breaker => {
      const breaker = made.get(name) ?? new Breaker({ failures, openMs, openMsMax, now });
      made.set(name, breaker);
      return breaker;
    };
  };
  return new Map(
    [...opened].map(([name, { own, deployments, balance, stickyBy, hedge }]) => {
      const address = breakers(breakerFailures);
      // One refusal tells all about a key, where there is another to go on with.
      const hasSeveral = new Set(deployments.map(({ key }) => key)).size > 1;
      const key = breakers(hasSeveral ? 1 : breakerFailures);
      const upstream = new Upstream({
        name,
        own,
        deployments: deployments.map(
          (it) =>
            new Deployment({
              ...it,
              address: address(it.address),
              key: key(it.key),
              parkMs: limits.keyParkMs,
              now,
            }),
        ),
        balance: balance ?? "peak-ewma",
        stickyBy: stickyBy ?? "named",
        hedge: hedge && { afterMs: hedge.afterMs, shareMax: hedge.shareMax },
        retries: { share: limits.retryShare, reserve: limits.retryReserve },
        random,
      });
      return [name, upstream] as const;
    }),
  );
}
