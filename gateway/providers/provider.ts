/** What the request path knows of a provider: how to ask it, how to read it, how to blame it. */
import type { HubError } from "../../sdk/protocol/errors.ts";
import type { Meter } from "../../sdk/protocol/usage.ts";
import type { Hearing } from "../content-log/hearing.ts";
import type { Upload } from "../http/form.ts";
import type { Timings } from "../observing/timings.ts";
import type { Trace } from "../observing/trace.ts";
import type { Target } from "../routing/resolve.ts";
import type { Format, PassingAnswer, PassingFormat, SpokenRequest } from "./format.ts";
import type { Timeouts } from "./settings.ts";
import type { Transport, TransportResponse } from "./transport.ts";

export type ProviderRequest = {
  path: string;
  headers: Record<string, string>;
  body: string;
  /** The body where it is a form, in place of the text. */
  upload?: Upload;
  /** Request fields that this provider has no place for; told in `x-switchyard-dropped`. */
  dropped: readonly string[];
};

/** For whom a provider is asked. */
export type CallContext = {
  requestId: string;
  projectId: string;
  startedAtMs: number;
  nowMs: () => number;
  timings?: Timings | undefined;
  trace?: Trace | undefined;
  /** Where the project lets answers be kept: hears one call. */
  hear?: (() => Hearing) | undefined;
  /** Whether a model has a price for it: how it is billed. */
  isPriced?: (target: Target, meter: Meter) => boolean;
  /** Nobody waits for this answer, so others' may come first. */
  canWait?: boolean;
};

/** A whole answer, its bytes as the client gets them. */
export type ProviderAnswer = PassingAnswer & {
  bytes: Uint8Array;
  /** Of one that was translated: how to write it again. */
  write?: () => { bytes: Uint8Array };
  /** What it says to people, without thoughts and calls; absent where nothing else is told apart. */
  told?: () => string;
};

export type Provider = {
  /** The upstream's name in settings, models, metrics and logs. */
  readonly name: string;
  /** What requests are translated into. */
  readonly format: Format | (Format & PassingFormat);
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
  /** Where a WebSocket of OpenAI's realtime sessions opens; absent where there are none. */
  realtime?(target: Target): { url: string; headers: Record<string, string> };
  /** An answer that is not 200, told as the client should act on it. */
  readError(response: TransportResponse, body: Uint8Array): HubError;
};
