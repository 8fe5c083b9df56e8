/** How long an audio file lasts, where its first bytes tell: of a WAV exactly, of an MP3 of constant rate nearly. */

/**
 * @param head the file's first bytes, some thousands if there are as many
 * @param bytes of the whole file
 * @returns milliseconds; undefined where another format, or nonsense, tells nothing
 * @see RIFF WAVE; ISO/IEC 11172-3 §2.4.1.3
 */
export function audioDurationMs(head: Buffer, bytes: number): number | undefined {
  return wavMs(head, bytes) ?? mp3Ms(head, bytes);
}

function wavMs(head: Buffer, bytes: number): number | undefined {
  if (head.toString("latin1", 0, 4) !== "RIFF" || head.toString("latin1", 8, 12) !== "WAVE") {
    return undefined;
  }
  let bytesPerSecond: number | undefined;
  for (let at = 12; at + 8 <= head.length; ) {
    const name = head.toString("latin1", at, at + 4);
    const length = head.readUInt32LE(at + 4);
    const content = at + 8;
    if (name === "fmt " && content + 16 <= head.length) bytesPerSecond = rateOf(head, content);
    if (name === "data") {
      if (!bytesPerSecond) return undefined;
      // A file that was written as it was recorded tells no length, or too much of one.
      const data = Math.min(length || bytes, Math.max(0, bytes - content));
      return Math.ceil((data / bytesPerSecond) * 1000);
    }
    at = content + length + (length % 2);
  }
  return undefined;
}

/** Of plain samples by what decoders go by; the rate that stands beside it they do not read, so it may be anything. */
function rateOf(head: Buffer, at: number): number {
  const isPlain = plainSamples.has(head.readUInt16LE(at));
  if (!isPlain) return head.readUInt32LE(at + 8);
  const [channels, samplesPerSecond] = [head.readUInt16LE(at + 2), head.readUInt32LE(at + 4)];
  return channels * samplesPerSecond * Math.ceil(head.readUInt16LE(at + 14) / 8);
}

function mp3Ms(head: Buffer, bytes: number): number | undefined {
  let start = 0;
  if (head.toString("latin1", 0, 3) === "ID3" && head.length >= 10) {
    // Seven bits a byte.
    const size = [6, 7, 8, 9].reduce((sum, at) => sum * 128 + ((head[at] ?? 0) & 0x7f), 0);
    start = 10 + size;
  }
  const [first = 0, second = 0, third = 0] = head.subarray(start, start + 3);
  const isLayer3 = first === 0xff && (second & 0xe6) === 0xe2;
  if (!isLayer3) return undefined;
  const rates = (second & 0x18) === 0x18 ? kilobitsOfMpeg1 : kilobitsOfMpeg2;
  const kilobits = rates[third >> 4];
  return kilobits ? Math.ceil(((bytes - start) * 8) / kilobits) : undefined;
}

const kilobitsOfMpeg1 = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const kilobitsOfMpeg2 = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
/** PCM, floats, and either of them in the extensible form. */
const plainSamples: ReadonlySet<number> = new Set([1, 3, 0xfffe]);
