/** What the request path knows of a provider: how to ask it, how to read it, how to blame it. */
import type { HubError } from "../../sdk/protocol/errors.ts";
import type { Target } from "../routing/resolve.ts";
import type { Format, PassingAnswer, PassingFormat, SpokenRequest } from "./format.ts";
import type { Timeouts } from "./settings.ts";
import type { Transport, TransportResponse } from "./transport.ts";

export type ProviderRequest = {
  path: string;
  headers: Record<string, string>;
  body: string;
  /** Request fields that this provider has no place for; told in `x-switchyard-dropped`. */
  dropped: readonly string[];
};

/** For whom a provider is asked. */
export type CallContext = {
  requestId: string;
  projectId: string;
  startedAtMs: number;
  nowMs: () => number;
};

/** A whole answer, its bytes as the client gets them. */
export type ProviderAnswer = PassingAnswer & {
  bytes: Uint8Array;
  /** Of one that was translated: how to write it again. */
  write?: () => { bytes: Uint8Array };
};

export type Provider = {
  /** The upstream's name in settings, models, metrics and logs. */
  readonly name: string;
  /** What requests are translated into. */
  readonly format: Format;
  /** What it speaks besides, to clients that speak the same. */
  readonly also?: readonly PassingFormat[];
  readonly servesAdapters: boolean;
  /** Why it cannot be called, such as a credential that is not set. */
  readonly notConfigured: string | undefined;
  readonly timeouts: Timeouts;
  readonly transport: Transport;
  /** @param request in the provider's own format: the client's, or one that was written for it */
  writeRequest(request: SpokenRequest, target: Target, context: CallContext): ProviderRequest;
  /**
   * Checks the head of a good answer against what was asked.
   * @returns digest of the adapter that answered, where one did
   * @throws HubError `adapter_not_applied`
   */
  readHead(response: TransportResponse, target: Target): string | undefined;
  /** For those that count a prompt's tokens when they are asked. */
  readonly counting?: {
    /** @returns undefined for what cannot be counted there */
    writeRequest(request: SpokenRequest, target: Target): ProviderRequest | undefined;
    /** @throws when the bytes are no count */
    readCount(bytes: Uint8Array): number;
  };
  /** An answer that is not 200, told as the client should act on it. */
  readError(response: TransportResponse, body: Uint8Array): HubError;
};
