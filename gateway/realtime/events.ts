/** The events of a realtime session that are read or written here; all others pass. */
import { z } from "zod";
import { HubError, toErrorBody } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";

export type ClientEvent = { type: string; event_id?: unknown; [field: string]: unknown };

/** @throws HubError `invalid_json`, `invalid_type` */
export function parseClientEvent(text: string): ClientEvent {
  let event: unknown;
  try {
    event = JSON.parse(text);
  } catch (cause) {
    throw new HubError("invalid_json", "An event has to be JSON.", { cause });
  }
  const parsed = clientEvent.safeParse(event);
  if (parsed.success) return parsed.data;
  throw new HubError("invalid_type", "An event has to be an object with a 'type'.", {
    param: "type",
  });
}

/** As OpenAI tells what is wrong with a session or with one event of it. */
export function errorEvent(error: unknown, eventId: unknown): string {
  const { error: told } = toErrorBody(error);
  const about = typeof eventId === "string" ? eventId.slice(0, 512) : null;
  return JSON.stringify({
    type: "error",
    event_id: `event_${newId("req", Date.now()).slice(4)}`,
    error: { ...told, event_id: about },
  });
}

/** @returns undefined for what is no event, which passes unread */
export function parseServerEvent(text: string): ServerEvent | undefined {
  try {
    return serverEvent.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

const clientEvent = z.looseObject({ type: z.string() });
const id = z.string().nullish().catch(undefined);
const serverEvent = z.object({
  type: z.string(),
  response_id: id,
  item_id: id,
  /** Of text, and of audio as base64. */
  delta: z.string().nullish().catch(undefined),
  transcript: z.string().nullish().catch(undefined),
  usage: z.unknown().optional(),
  response: z
    .object({
      id,
      status: id,
      usage: z.unknown().optional(),
    })
    .nullish()
    .catch(undefined),
});
export type ServerEvent = z.infer<typeof serverEvent>;
