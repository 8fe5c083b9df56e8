/** Ids of calls that every upstream takes: the Responses API allows 64 characters, OpenAI's chats 40. */
import { hash } from "node:crypto";

/** The id itself where it is short, else always the same short one in its place, for a call and for its output. */
export function toCallId(id: string): string {
  return id.length <= callIdCharsMax ? id : `call_${hash("sha256", id).slice(0, 32)}`;
}

const callIdCharsMax = 40;
