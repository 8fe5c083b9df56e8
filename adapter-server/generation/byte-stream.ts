/** The frames of an answer as the body of a response. */
import { HubError, toErrorBody } from "../../sdk/protocol/errors.ts";

/**
 * One frame is made ahead of the reader and no more: tokens that come meanwhile wait as tokens, at most as many as
 * were asked for. A reader that leaves a frame unread for too long holds weights and tokens for nothing, so its
 * answer ends: all is let go at once, and should it read on, it is told.
 */
export function toByteStream(
  frames: AsyncGenerator<string, void, void>,
  options: {
    /** Called when the reader goes away, also while a frame is awaited, or has read nothing for too long. */
    onCancel: () => void;
    unreadMsMax: number;
  },
): ReadableStream<Uint8Array> {
  const { onCancel, unreadMsMax } = options;
  const encoder = new TextEncoder();
  let unread: NodeJS.Timeout | undefined;
  let given: HubError | undefined;
  const giveUp = () => {
    given = new HubError(
      "request_cancelled",
      `Nothing of the answer was read for ${unreadMsMax / 1000} s, so it was ended.`,
    );
    onCancel();
    void frames.return();
  };
  return new ReadableStream({
    async pull(controller) {
      clearTimeout(unread);
      const frame = given
        ? `data: ${JSON.stringify(toErrorBody(given))}\n\n`
        : (await frames.next()).value;
      if (frame) controller.enqueue(encoder.encode(frame));
      if (given || frame === undefined) return controller.close();
      unread = setTimeout(giveUp, unreadMsMax).unref();
    },
    async cancel() {
      clearTimeout(unread);
      onCancel();
      await frames.return();
    },
  });
}

export const streamHeaders = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
};
