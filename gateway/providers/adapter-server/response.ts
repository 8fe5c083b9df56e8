/** Checks that the weights which answered are the ones that were asked for. */
import { HubError } from "../../../sdk/protocol/errors.ts";
import { adapterDigestHeader } from "../../../sdk/protocol/http.ts";
import type { Target } from "../../routing/resolve.ts";
import type { TransportResponse } from "../transport.ts";

/**
 * An answer by other weights is worse than none: it would be billed, measured and promoted as the
 * adapter's. (A server that lost an adapter and fell back to its base answers 200 all the same.)
 * @returns digest of the adapter, or of the mix, that sat in the slot
 * @throws HubError `adapter_not_applied`
 */
export function readAdapterServerHead(
  response: TransportResponse,
  target: Target,
): string | undefined {
  const applied = response.header(adapterDigestHeader);
  const asked = target.adapter?.digest;
  const ok = target.mix ? applied !== undefined : applied === asked;
  if (ok) return applied;
  throw new HubError(
    "adapter_not_applied",
    `The adapter-server answered for '${target.name}' with ${applied === undefined ? "no adapter" : `adapter sha256-${applied}`} instead of ${asked === undefined ? "the one that was asked for" : `sha256-${asked}`}.`,
  );
}
