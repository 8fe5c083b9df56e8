/** Keeps relayed frames, so that their text can be counted when nobody tells the usage. */
import { parseSseFrame } from "../../../sdk/protocol/sse.ts";
import { parseJson, partText } from "./response.ts";
import { geminiAnswer } from "./schema.ts";

/** Frames are parsed only when somebody asks, which is after a stream that broke off. */
export class RelayedFrames {
  readonly #frames: string[] = [];
  #chars = 0;
  readonly #charsMax: number;

  /** @param charsMax bytes kept; what comes after is not counted */
  constructor(charsMax: number) {
    this.#charsMax = charsMax;
  }

  /** @param frame one event's bytes, decoded as Latin-1 */
  add(frame: string): void {
    if (this.#chars >= this.#charsMax) return;
    this.#chars += frame.length;
    this.#frames.push(frame);
  }

  get length(): number {
    return this.#chars;
  }

  /** What the model wrote, arguments of calls included. */
  toString(): string {
    let text = "";
    for (const frame of this.#frames) {
      const data = parseSseFrame(Buffer.from(frame, "latin1"))?.data ?? "";
      for (const { content } of geminiAnswer.safeParse(parseJson(data)).data?.candidates ?? []) {
        for (const part of content?.parts ?? []) text += partText(part);
      }
    }
    return text;
  }
}
