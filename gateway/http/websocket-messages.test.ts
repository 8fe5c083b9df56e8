import { EventEmitter } from "node:events";
import type { Duplex } from "node:stream";
import fc from "fast-check";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { WebSocket } from "ws";
import { limitMessages, MessageFollower } from "./websocket-messages.ts";

type Frame = { opcode: number; fin: boolean; length: number; masked: boolean };

/** RFC 6455 §5.2. */
function bytesOf({ opcode, fin, length, masked }: Frame): Buffer {
  const lengthBytes = length > 0xffff ? 8 : length > 125 ? 2 : 0;
  const head = Buffer.alloc(2 + lengthBytes + (masked ? 4 : 0));
  head[0] = (fin ? 0x80 : 0) | opcode;
  const short = lengthBytes === 8 ? 127 : lengthBytes === 2 ? 126 : length;
  head[1] = (masked ? 0x80 : 0) | short;
  if (lengthBytes === 2) head.writeUInt16BE(length, 2);
  if (lengthBytes === 8) head.writeBigUInt64BE(BigInt(length), 2);
  // Content that looks like heads.
  return Buffer.concat([head, Buffer.alloc(length, 0x81)]);
}

const text = (length: number, more: Partial<Frame> = {}): Frame => ({
  ...{ opcode: 1, fin: true, length, masked: true },
  ...more,
});
const ping: Frame = { opcode: 9, fin: true, length: 3, masked: true };

const lengths = fc.oneof(
  fc.integer({ min: 0, max: 130 }),
  fc.constantFrom(125, 126, 65_535, 65_536, 70_000),
);
/** A message in some frames, with pings between them. */
const message = fc
  .record({ parts: fc.array(lengths, { minLength: 1, maxLength: 4 }), masked: fc.boolean() })
  .map(({ parts, masked }) =>
    parts.flatMap((length, index) => [
      text(length, { opcode: index === 0 ? 1 : 0, fin: index === parts.length - 1, masked }),
      ...(index < parts.length - 1 ? [ping] : []),
    ]),
  );

test("however a connection's bytes are cut, a message is open from its first byte to its last", () => {
  fc.assert(
    fc.property(
      fc.array(message, { minLength: 1, maxLength: 4 }),
      fc.array(fc.integer({ min: 1, max: 100_000 }), { maxLength: 20 }),
      (messages, cuts) => {
        const whole = messages.map((frames) => Buffer.concat(frames.map(bytesOf)));
        const bytes = Buffer.concat(whole);
        const ends = whole.map((_, at) => Buffer.concat(whole.slice(0, at + 1)).length);
        const follower = new MessageFollower();
        const at = [...cuts.map((cut) => cut % bytes.length), bytes.length].sort((a, b) => a - b);
        let before = 0;
        for (const cut of at) {
          follower.push(bytes.subarray(before, cut));
          before = cut;
          expect(follower.ended).toBe(ends.filter((end) => end <= cut).length);
          expect(follower.isOpen).toBe(cut > 0 && !ends.includes(cut));
        }
      },
    ),
    { numRuns: 200 },
  );
});

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

function open() {
  const socket = new EventEmitter();
  const client = { isPaused: false };
  const late = vi.fn();
  limitMessages(client as WebSocket, socket as Duplex, { timeoutMs: 1000, late });
  const arrive = (...frames: Frame[]) => socket.emit("data", Buffer.concat(frames.map(bytesOf)));
  return { socket, client, late, arrive };
}

test("a message that comes piece by piece is late, however often a piece comes", () => {
  const { late, arrive } = open();
  arrive(text(5, { fin: false }));
  for (let piece = 0; piece < 4; piece++) {
    vi.advanceTimersByTime(249);
    arrive(ping, text(1, { opcode: 0, fin: false }));
  }
  expect(late).not.toHaveBeenCalled();
  vi.advanceTimersByTime(4);
  expect(late).toHaveBeenCalledOnce();
});

test("a frame of which nothing more comes is late too, be it cut in its head or in its content", () => {
  for (const cut of [1, 3, 7, 40]) {
    const { late, socket } = open();
    socket.emit("data", bytesOf(text(100)).subarray(0, cut));
    vi.advanceTimersByTime(1000);
    expect([cut, late.mock.calls.length]).toEqual([cut, 1]);
  }
});

test("whole messages have all the time that there is, and each a deadline of its own", () => {
  const { late, socket, arrive } = open();
  arrive(text(3), text(4));
  vi.advanceTimersByTime(100_000);
  for (let message = 0; message < 5; message++) {
    vi.advanceTimersByTime(600);
    // The end of one comes together with the beginning of the next.
    arrive(...(message > 0 ? [text(2, { opcode: 0 })] : []), text(2, { fin: false }));
  }
  arrive(text(1, { opcode: 0 }));
  vi.advanceTimersByTime(100_000);
  expect(late).not.toHaveBeenCalled();
  arrive(text(1, { fin: false }));
  socket.emit("close");
  vi.advanceTimersByTime(100_000);
  expect(late).not.toHaveBeenCalled();
});

test("what we do not read is not late", () => {
  const { client, late, arrive } = open();
  arrive(text(5, { fin: false }));
  client.isPaused = true;
  vi.advanceTimersByTime(10_000);
  expect(late).not.toHaveBeenCalled();
  client.isPaused = false;
  vi.advanceTimersByTime(1000);
  expect(late).toHaveBeenCalledOnce();
});
