/** Keeps a copy of an answer on its way to the client, whether that stays or leaves. */

export type RecordOptions = {
  bytesMax: number;
  /** Whether the client's leaving ends the source, and with it the recording. */
  endsWithClient?: boolean;
  /**
   * Told the pieces of the whole answer as they came, or nothing where it was too large or broke off; the client's end
   * waits for it.
   */
  finish: (pieces: readonly Uint8Array[] | undefined) => Promise<void>;
  /** Told of each piece that is kept, when it comes. */
  onPiece?: () => void;
};

/**
 * As long as it fits, the answer is read as fast as it comes. Beyond that it is given up: the client's reading slows
 * its source again, and its leaving ends it.
 */
export function recordAnswer(
  source: ReadableStream<Uint8Array>,
  { bytesMax, endsWithClient = false, finish, onPiece }: RecordOptions,
): ReadableStream<Uint8Array> {
  const reader = source.getReader();
  let chunks: Uint8Array[] | undefined = [];
  let bytes = 0;
  let gone = false;
  let wake: (() => void) | undefined;

  async function pump(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    let broken = false;
    try {
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        bytes += next.value.length;
        if (bytes > bytesMax) chunks = undefined;
        if (chunks) {
          chunks.push(next.value);
          onPiece?.();
        }
        if (!gone) controller.enqueue(next.value);
        if (chunks) continue;
        if (gone) break;
        if ((controller.desiredSize ?? 0) <= 0) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } catch (error) {
      broken = true;
      await finish(undefined);
      if (!gone) controller.error(error);
    }
    if (gone && !chunks) await reader.cancel().catch(() => {});
    if (broken) return;
    await finish(chunks);
    if (!gone) controller.close();
  }

  return new ReadableStream<Uint8Array>({
    start(controller) {
      void pump(controller);
    },
    pull() {
      wake?.();
    },
    cancel(reason) {
      gone = true;
      wake?.();
      if (!endsWithClient) return undefined;
      chunks = undefined;
      return reader.cancel(reason);
    },
  });
}
