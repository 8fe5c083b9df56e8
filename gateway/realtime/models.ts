/** Names of models in a client's events: ours go in, the upstream's go out, and none passes unseen. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { ClientEvent } from "./events.ts";

type Fields = Record<string, unknown>;

/** The model that a client's event wants its words transcribed by; of either form that sessions have had. */
export function nameTranscriber(event: ClientEvent): string | undefined {
  for (const transcription of transcriptionsOf(event)) {
    const { model } = transcription;
    if (model === undefined || model === null) continue;
    if (typeof model === "string" && model.length <= 512) return model;
    throw new HubError("invalid_type", "A model's name is a text of at most 512 characters.", {
      param: "session.audio.input.transcription.model",
    });
  }
  return undefined;
}

/**
 * Writes the upstream's names in the place of ours.
 * @throws HubError `unsupported_parameter` where a session or a response names another model than the session's
 */
export function setModels(
  event: ClientEvent,
  names: { requested: string; own: string; transcriber: string | undefined },
): void {
  for (const [param, holder] of [
    ["session.model", asFields(event.session)],
    ["response.model", asFields(event.response)],
  ] as const) {
    if (!holder || holder.model === undefined || holder.model === null) continue;
    if (holder.model !== names.requested) {
      throw new HubError(
        "unsupported_parameter",
        `A session keeps the model that it was opened with, '${names.requested}'.`,
        { param },
      );
    }
    holder.model = names.own;
  }
  for (const transcription of transcriptionsOf(event)) {
    if (transcription.model != null) transcription.model = names.transcriber;
  }
}

/** All that an event may hold: two of them that differ would name two models. */
function transcriptionsOf(event: ClientEvent): Fields[] {
  const session = asFields(event.session);
  if (!session) return [];
  const input = asFields(asFields(session.audio)?.input);
  const found = [asFields(input?.transcription), asFields(session.input_audio_transcription)];
  const all = found.filter((fields) => fields !== undefined);
  if (all.length > 1 && all[0]?.model !== all[1]?.model) {
    throw new HubError("unsupported_parameter", "A session has one model to transcribe by.", {
      param: "session.input_audio_transcription.model",
    });
  }
  return all;
}

function asFields(value: unknown): Fields | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : undefined;
}
