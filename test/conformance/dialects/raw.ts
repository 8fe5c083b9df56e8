/** What guards look at in an answer's bytes. */
import assert from "node:assert/strict";

export type RawEvent = { event: string | undefined; data: string };

/** The events of a stream, comments left out. */
export function eventsIn(text: string): RawEvent[] {
  return text
    .split(/\r?\n\r?\n/)
    .filter((frame) => frame.trim() !== "" && !frame.startsWith(":"))
    .map((frame) => {
      const lines = frame.split(/\r?\n/);
      const value = (field: string) =>
        lines.find((line) => line.startsWith(`${field}: `))?.slice(field.length + 2);
      return { event: value("event"), data: value("data") ?? "" };
    });
}

/** @throws AssertionError for a member that the dialect does not have */
export function keysWithin(object: object, known: readonly string[]): void {
  const foreign = Object.keys(object).filter((key) => !known.includes(key));
  assert.deepEqual(foreign, [], "members that are not of this dialect");
}

export function dataUrl(mediaType: string, data: string): string {
  return `data:${mediaType};base64,${data}`;
}
