/** What is read of a part of a request, so that it can be counted. */

/** Text that becomes tokens, and what else does: documents, sounds, what a provider sealed, and whatever comes later. */
export type Reading = { text: string; unread: readonly unknown[] };

/** Other values than texts are nothing. */
export function readText(...values: readonly unknown[]): Reading {
  return { text: values.filter((value) => typeof value === "string").join("\n"), unread: [] };
}

export function unread(...values: readonly unknown[]): Reading {
  return { text: "", unread: values.filter((value) => value != null) };
}

export function together(readings: readonly Reading[], separator = "\n"): Reading {
  const texts = readings.map(({ text }) => text).filter((text) => text !== "");
  return {
    text: texts.join(separator),
    unread: readings.flatMap(({ unread }) => unread),
  };
}

/** Of what is no text, which is written out only when somebody asks: no token is shorter than a byte. */
export function unreadBytes(readings: readonly Reading[]): number {
  let bytes = 0;
  for (const value of readings.flatMap(({ unread }) => unread)) {
    bytes += Buffer.byteLength(JSON.stringify(value));
  }
  return bytes;
}
