/** Frames that pass, as few pieces of memory as possible. */

/** Joins neighbouring frames back into one piece of memory, usually the very chunk that came. */
export class Stretches {
  readonly all: Uint8Array[] = [];

  add(frame: Uint8Array): void {
    const last = this.all.at(-1);
    if (last?.buffer === frame.buffer && last.byteOffset + last.length === frame.byteOffset) {
      this.all[this.all.length - 1] = new Uint8Array(
        last.buffer,
        last.byteOffset,
        last.length + frame.length,
      );
    } else this.all.push(frame);
  }
}
