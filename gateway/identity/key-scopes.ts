/** What a key may be used for, beside what its project may. */

import type { ApiKey } from "../../sdk/protocol/catalog.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type AddressRanges, openRanges } from "../http/address-ranges.ts";

/**
 * @param method  of the request
 * @param path    of the request, as it was sent
 * @param address of the client; a key for certain addresses is of no use where none is known
 * @throws HubError `permission_denied` naming what the key is for
 */
export function refuseOutside(
  key: ApiKey,
  { method, path, address }: { method: string; path: string; address: string | undefined },
): void {
  refuseEndpoint(key, { method, path });
  const { id, scopes } = key;
  if (!scopes?.addresses) return;
  if (address === undefined || !rangesOf(scopes.addresses).include(address)) {
    throw new HubError(
      "permission_denied",
      `The API key '${id}' may not be used from ${address ?? "an unknown address"}.`,
    );
  }
}

/** @throws HubError `permission_denied` naming what the key is for */
export function refuseEndpoint(
  { id, scopes }: ApiKey,
  { method, path }: { method: string; path: string },
): void {
  if (!scopes?.endpoints) return;
  // Below the list of models Google's clients ask a model to answer; who may read the list may not therefore do that.
  const asks = method === "POST" && path.startsWith(`${listOfModels}/`);
  const also = asks ? `/v1beta${path.slice("/v1".length)}` : path;
  const isCovered = (endpoint: string) =>
    (isUnder(path, endpoint) && !(asks && endpoint.replace(/\/$/, "") === listOfModels)) ||
    isUnder(also, endpoint);
  if (scopes.endpoints.some(isCovered)) return;
  throw new HubError(
    "permission_denied",
    `The API key '${id}' is for ${scopes.endpoints.join(", ")} alone. Use another, or have it made for ${path.slice(0, 200)} too.`,
  );
}

/**
 * Whether a key that is for certain models is for this one. A base model's name stands for its adapters, an
 * adapter's for its versions.
 * @param models absent is all
 */
export function mayUse(name: string, models: readonly string[] | undefined): boolean {
  if (models === undefined) return true;
  const [adapter = name] = name.split("@", 1);
  const [base = name] = adapter.split(":", 1);
  return models.includes(name) || models.includes(adapter) || models.includes(base);
}

function isUnder(path: string, endpoint: string): boolean {
  return path === endpoint || path.startsWith(endpoint.endsWith("/") ? endpoint : `${endpoint}/`);
}

const listOfModels = "/v1/models";

/** Lists are the snapshot's, and as many as there are keys with one. */
function rangesOf(addresses: readonly string[]): AddressRanges {
  const known = ranges.get(addresses);
  if (known) return known;
  const opened = openRanges(addresses);
  ranges.set(addresses, opened);
  return opened;
}

const ranges = new WeakMap<readonly string[], AddressRanges>();
