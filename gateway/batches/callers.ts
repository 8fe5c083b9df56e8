/**
 * Requests that the gateway makes itself, for a batch, on behalf of the key that created it. They go through the
 * same door as a client's. The request object itself is what counts, so no client can pretend to be one.
 */
import type { KeyId } from "../../sdk/protocol/ids.ts";

export type BatchCaller = { batchId: string; keyId: KeyId };

const callers = new WeakMap<Request, BatchCaller>();

export function callAs(request: Request, caller: BatchCaller): Request {
  callers.set(request, caller);
  return request;
}

/** Absent for what came in from outside. */
export function batchCallerOf(request: Request): BatchCaller | undefined {
  return callers.get(request);
}
