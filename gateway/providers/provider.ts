/** What the request path knows of a provider: how to ask it, how to read it, how to blame it. */
import type { HubError } from "../../sdk/protocol/errors.ts";
import type { ChatCall } from "../dialects/openai-chat/request.ts";
import type { ReadUsage } from "../ledger/usage.ts";
import type { Target } from "../routing/resolve.ts";
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
export type CallContext = { requestId: string; projectId: string };

/** A whole answer, its bytes as they came. */
export type ProviderAnswer = {
  bytes: Uint8Array;
  usage: ReadUsage | undefined;
  /** What the model wrote, to be counted when the usage is not told. */
  text: { toString(): string };
};

export type Provider = {
  /** The upstream's name in settings, models, metrics and logs. */
  readonly name: string;
  readonly servesAdapters: boolean;
  /** Why it cannot be called, such as a credential that is not set. */
  readonly notConfigured: string | undefined;
  readonly timeouts: Timeouts;
  readonly transport: Transport;
  writeRequest(call: ChatCall, target: Target, context: CallContext): ProviderRequest;
  /**
   * Checks the head of a good answer against what was asked.
   * @returns digest of the adapter that answered, where one did
   * @throws HubError `adapter_not_applied`
   */
  readHead(response: TransportResponse, target: Target): string | undefined;
  /** @throws HubError `upstream_error` when the bytes are no answer */
  readAnswer(bytes: Uint8Array): ProviderAnswer;
  /** An answer that is not 200, told as the client should act on it. */
  readError(response: TransportResponse, body: Uint8Array): HubError;
};
