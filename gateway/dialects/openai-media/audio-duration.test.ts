import { expect, test } from "vitest";
import { audioDurationMs } from "./audio-duration.ts";

test("a WAV lasts as long as its header says, and no longer than the file", () => {
  expect(audioDurationMs(wav({ bytesPerSecond: 32_000, data: 80_000 }), 44 + 80_000)).toBe(2500);
  expect(audioDurationMs(wav({ bytesPerSecond: 32_000, data: 4e9 }), 44 + 16_000)).toBe(500);
  // As a recorder writes it that does not know yet how long it will be.
  expect(audioDurationMs(wav({ bytesPerSecond: 32_000, data: 0 }), 44 + 16_000)).toBe(500);
});

test("a WAV of plain samples lasts as long as they do, whatever rate stands beside them", () => {
  const samples = { format: 1, channels: 1, samplesPerSecond: 16_000, bits: 16 };
  const liar = wav({ bytesPerSecond: 4_000_000_000, data: 64_000, ...samples });
  expect(audioDurationMs(liar, 44 + 64_000)).toBe(2000);
});

test("an MP3 lasts as long as its rate makes of its bytes, tags left out", () => {
  const frame = Buffer.from([0xff, 0xfb, 0x90, 0x00]);
  expect(audioDurationMs(frame, 160_000)).toBe(10_000);
  const tag = Buffer.from([0x49, 0x44, 0x33, 4, 0, 0, 0, 0, 1, 0]);
  const tagged = Buffer.concat([tag, Buffer.alloc(128), frame]);
  expect(audioDurationMs(tagged, 138 + 16_000)).toBe(1000);
});

test.each([
  ["nothing", Buffer.alloc(0)],
  ["a WAV of no rate", wav({ bytesPerSecond: 0, data: 10 })],
  ["a WAV that ends in its header", wav({ bytesPerSecond: 1, data: 10 }).subarray(0, 30)],
  [
    "a WAV whose chunk is endless",
    Buffer.from("RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\xff", "latin1"),
  ],
  ["a tag longer than what was read", Buffer.from([0x49, 0x44, 0x33, 4, 0, 0, 127, 127, 127, 127])],
  ["an MP3 of an unknown rate", Buffer.from([0xff, 0xfb, 0xf0, 0x00])],
  ["another format", Buffer.from("OggS and so on")],
])("%s tells nothing", (_, head) => {
  expect(audioDurationMs(head, 1000)).toBeUndefined();
});

type Wav = {
  bytesPerSecond: number;
  data: number;
  format?: number;
  channels?: number;
  samplesPerSecond?: number;
  bits?: number;
};

function wav({ bytesPerSecond, data, ...samples }: Wav): Buffer {
  const header = Buffer.alloc(44);
  header.write("RIFF", 0, "latin1");
  header.writeUInt32LE(Math.min(36 + data, 2 ** 32 - 1), 4);
  header.write("WAVEfmt ", 8, "latin1");
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(samples.format ?? 2, 20);
  header.writeUInt16LE(samples.channels ?? 0, 22);
  header.writeUInt32LE(samples.samplesPerSecond ?? 0, 24);
  header.writeUInt32LE(bytesPerSecond, 28);
  header.writeUInt16LE(samples.bits ?? 0, 34);
  header.write("data", 36, "latin1");
  header.writeUInt32LE(data, 40);
  return header;
}
