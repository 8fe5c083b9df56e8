/** An upstream's stream on its way to the client: passed as it is, or translated. */
import type { HubError } from "../../sdk/protocol/errors.ts";
import type { PassingStream } from "../providers/format.ts";

export type StreamStep = {
  /** Bytes for the client, in order. */
  pass: Uint8Array[];
  /** Set once the stream is over: by its own end, by the connection's, or by an error in it. */
  end?: { error?: HubError };
  /** What is still to come, once it is known whether it may pass; nothing is read after it. */
  later?: Promise<StreamStep>;
};

/** A step with all that belongs to it. */
export async function whole({ pass, end, later }: StreamStep): Promise<StreamStep> {
  if (!later) return { pass, ...(end && { end }) };
  const rest = await later;
  return { ...rest, pass: [...pass, ...rest.pass] };
}

export type AnswerStream = PassingStream & {
  /** The last bytes for the client, to be sent when the request is settled. */
  ending(error: HubError | undefined): Uint8Array | undefined;
};
