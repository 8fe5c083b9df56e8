/** Philox 4x32-10: random numbers as a pure function of key and counter. */

/**
 * Writes four uniform 32-bit words for this counter and key to `out`. No state: the same arguments
 * give the same words, whatever was asked before.
 * @see Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011
 */
export function philox(out: Uint32Array, counter: Uint32Array, key0: number, key1: number): void {
  let [c0, c1, c2, c3] = [counter[0]!, counter[1]!, counter[2]!, counter[3]!];
  let k0 = key0;
  let k1 = key1;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(M0, c0);
    const high1 = multiplyHigh(M1, c2);
    const low0 = Math.imul(M0, c0);
    const low1 = Math.imul(M1, c2);
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1 >>> 0;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0 >>> 0;
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * A number in [0, 1) with 53 random bits for one draw of one stream.
 * @param seed    any integer that a double holds exactly
 * @param stream  tells apart the choices of one request
 * @param draw    position of the token that is drawn
 */
export function uniform(seed: number, stream: number, draw: number): number {
  scratchCounter[0] = draw;
  scratchCounter[1] = stream;
  philox(scratchOut, scratchCounter, seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0);
  return ((scratchOut[0]! >>> 5) * 2 ** 26 + (scratchOut[1]! >>> 6)) / 2 ** 53;
}

/** The upper 32 bits of the 64-bit product. */
function multiplyHigh(a: number, b: number): number {
  const aHigh = a >>> 16;
  const aLow = a & 0xffff;
  const bHigh = b >>> 16;
  const bLow = b & 0xffff;
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 2 ** 16);
  const carry = (middle % 2 ** 16) + aLow * bHigh;
  return (aHigh * bHigh + Math.floor(middle / 2 ** 16) + Math.floor(carry / 2 ** 16)) >>> 0;
}

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;
const scratchCounter = new Uint32Array(4);
const scratchOut = new Uint32Array(4);
