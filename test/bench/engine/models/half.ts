/** Rounds float32 to IEEE 754 binary16, to the nearest, ties to even. */

/** The bits of one number. */
export function toHalf(value: number): number {
  floats[0] = value;
  const source = bits[0] as number;
  const sign = (source >>> 16) & 0x8000;
  const magnitude = source & 0x7fff_ffff;
  // Infinity, what is not a number, and what is too large for a half.
  if (magnitude >= 0x4780_0000) return sign | (magnitude > 0x7f80_0000 ? 0x7e00 : 0x7c00);
  if (magnitude < 0x3880_0000) {
    // Subnormal: adding one half shifts the fraction so that the processor rounds it.
    floats[0] = Math.abs(value) + 0.5;
    return sign | ((bits[0] as number) - 0x3f00_0000);
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x3800_0000) >>> 13);
}

/** The bytes of many, little-endian. */
export function toHalfBytes(values: ArrayLike<number>): Uint8Array {
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) halves[i] = toHalf(values[i] as number);
  return new Uint8Array(halves.buffer);
}

const floats = new Float32Array(1);
const bits = new Uint32Array(floats.buffer);
