/** Gives a kept answer's body again: at once, or piece by piece as it once came. */
import type { CachedAnswer } from "./answer.ts";

/** A pause is never made longer than this, so that a stall of a provider's is not repeated in full. */
const pauseMsMax = 2_000;

/**
 * The pieces with the pauses that were between them.
 * @param onEnd told once, when all is said or the client has left
 */
export function replayAtPace(
  { body, pieces = [] }: Pick<CachedAnswer, "body" | "pieces">,
  onEnd: () => void,
): ReadableStream<Uint8Array> {
  let index = 0;
  let offset = 0;
  let beforeMs = 0;
  let timer: NodeJS.Timeout | undefined;
  let gone: (() => void) | undefined;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const piece = pieces[index++];
      if (!piece) {
        if (offset < body.length) controller.enqueue(body.subarray(offset));
        controller.close();
        return onEnd();
      }
      const [atMs, bytes] = piece;
      const pauseMs = Math.min(Math.max(0, atMs - beforeMs), pauseMsMax);
      beforeMs = atMs;
      await new Promise<void>((resolve) => {
        gone = resolve;
        timer = setTimeout(resolve, pauseMs);
      });
      const next = body.subarray(offset, offset + bytes);
      offset += bytes;
      if (next.length > 0) controller.enqueue(next);
    },
    cancel() {
      clearTimeout(timer);
      gone?.();
      onEnd();
    },
  });
}
