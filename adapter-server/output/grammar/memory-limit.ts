/** Bounds what WebAssembly may take in a thread: the build that we use would grow to 2 GiB. */

/** To be called before an instance is made, in a thread that makes no others. */
export function limitMemory(bytesMax: number): void {
  const { prototype } = (globalThis as unknown as WithWebAssembly).WebAssembly.Memory;
  const { grow } = prototype;
  prototype.grow = function (pages) {
    if (this.buffer.byteLength + pages * pageBytes > bytesMax) {
      throw new RangeError("the memory of this thread is bounded");
    }
    return grow.call(this, pages);
  };
}

/** What we need of a global that the types of Node do not have. */
type WithWebAssembly = { WebAssembly: { Memory: { prototype: Memory } } };
type Memory = { readonly buffer: ArrayBuffer; grow(this: Memory, pages: number): number };

const pageBytes = 65_536;
