import fc from "fast-check";
import { expect, test } from "vitest";
import { PendingBytes } from "./pending-bytes.ts";

test("what is pushed waits in order, less what was dropped, and what was given out stays as it was", () => {
  const step = fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.nat());
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const pending = new PendingBytes();
      const given: { bytes: Uint8Array; copy: number[] }[] = [];
      let waiting: number[] = [];
      for (const [chunk, drop] of steps) {
        const bytes = pending.push(chunk);
        waiting.push(...chunk);
        expect([...bytes]).toEqual(waiting);
        given.push({ bytes, copy: [...bytes] });
        const count = drop % (waiting.length + 1);
        pending.drop(count);
        waiting = waiting.slice(count);
        expect(pending.length).toBe(waiting.length);
      }
      for (const { bytes, copy } of given) expect([...bytes]).toEqual(copy);
      expect([...pending.takeAll()]).toEqual(waiting);
      expect(pending.length).toBe(0);
    }),
  );
});

test("a frame that comes byte by byte is moved to other memory a few times, and not for each byte", () => {
  const pending = new PendingBytes();
  const memories = new Set<ArrayBufferLike>();
  const bytes = 100_000;
  for (let sent = 0; sent < bytes; sent++) {
    memories.add(pending.push(Uint8Array.of(sent & 255)).buffer);
  }
  expect(pending.length).toBe(bytes);
  expect(memories.size).toBeLessThan(24);
  expect(pending.takeAll().buffer.byteLength).toBeLessThanOrEqual(2 * bytes);
});
