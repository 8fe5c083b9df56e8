import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatSse, parseSseFrame, SseFramer, SseParser, sseDone, sseKeepAlive } from "./sse.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

/** The events of a text, fed in one piece. */
function parse(text: string) {
  const parser = new SseParser();
  return [...parser.push(bytes(text)), ...parser.end()].map(({ event, data }) => ({ event, data }));
}

/** Cuts bytes at the given places, empty pieces included. */
function cut(whole: Uint8Array, places: readonly number[]): Uint8Array[] {
  const ends = [...places.map((place) => place % (whole.length + 1)), whole.length];
  ends.sort((a, b) => a - b);
  return ends.map((end, index) => whole.slice(index === 0 ? 0 : ends[index - 1], end));
}

const lineEnd = fc.constantFrom("\n", "\r\n", "\r");
const text = fc.string({ unit: "binary" }).map((it) => it.replace(/[\r\n\ufeff]/g, " "));
const line = fc.oneof(
  text.map((it) => `data: ${it}`),
  text.map((it) => `data:${it}`),
  text.map((it) => `: ${it}`),
  text.map((it) => `event: ${it}`),
  fc.constantFrom("data", "data:", "id: 7", "retry: 5", "unknown: x", ":"),
);
/** A frame's lines may end each in its own way; so may the blank line. */
const frame = fc
  .array(fc.tuple(line, lineEnd), { minLength: 1, maxLength: 4 })
  .chain((lines) => lineEnd.map((end) => lines.map(([it, its]) => it + its).join("") + end));
const stream = fc.array(frame, { maxLength: 6 }).map((frames) => frames.join(""));

describe("reading", () => {
  test("any stream gives the same events however it is cut", () => {
    fc.assert(
      fc.property(stream, fc.array(fc.nat(), { maxLength: 12 }), (whole, places) => {
        const parser = new SseParser();
        const events = cut(bytes(whole), places).flatMap((piece) => parser.push(piece));
        const all = [...events, ...parser.end()].map(({ event, data }) => ({ event, data }));
        expect(all).toEqual(parse(whole));
      }),
      { numRuns: 1000 },
    );
  });

  test("frames that are passed on are the bytes that came, none lost and none added", () => {
    fc.assert(
      fc.property(stream, text, fc.array(fc.nat(), { maxLength: 12 }), (whole, rest, places) => {
        const sent = bytes(whole + rest);
        const framer = new SseFramer();
        const frames = cut(sent, places).flatMap((piece) => framer.push(piece));
        expect(Buffer.concat([...frames, framer.end()])).toEqual(Buffer.from(sent));
      }),
      { numRuns: 500 },
    );
  });

  test("events are those of the WHATWG specification", () => {
    expect(parse("data: a\ndata: b\n\n")).toEqual([{ event: undefined, data: "a\nb" }]);
    expect(parse("event: error\r\ndata:x\r\n\r\n")).toEqual([{ event: "error", data: "x" }]);
    expect(parse("data:  two spaces\r\r")).toEqual([{ event: undefined, data: " two spaces" }]);
    expect(parse("data\n\n")).toEqual([{ event: undefined, data: "" }]);
    expect(parse(`${sseKeepAlive}id: 1\nretry: 5\n\n${sseDone}`)).toEqual([
      { event: undefined, data: "[DONE]" },
    ]);
    expect(parse("\n\n\ndata: x\n\n\n\n")).toEqual([{ event: undefined, data: "x" }]);
  });

  test("a stream that ends without its last blank line still tells its last event", () => {
    expect(parse("data: a\n\ndata: b")).toEqual([
      { event: undefined, data: "a" },
      { event: undefined, data: "b" },
    ]);
  });

  test("an event waits for its end", () => {
    const parser = new SseParser();
    expect(parser.push(bytes("data: a\n"))).toEqual([]);
    expect(parser.push(bytes("\r"))).toEqual([]);
    expect(parser.push(bytes("\n")).map(({ data }) => data)).toEqual(["a"]);
  });

  test("a frame that grows past its bound is refused", () => {
    const parser = new SseParser({ frameBytesMax: 100 });
    expect(() => {
      for (let i = 0; i < 20; i++) parser.push(bytes("data: 0123"));
    }).toThrow("larger than 100 bytes");
  });
});

describe("writing", () => {
  test("what is written is read back", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary" }).map((it) => it.replace(/[\r\ufeff]/g, "")),
        fc.option(fc.constantFrom("error", "response.created"), { nil: undefined }),
        (data, event) => {
          expect(parse(formatSse(data, event))).toEqual([{ event, data }]);
        },
      ),
    );
  });

  test("a frame's raw bytes are what the relay passes on", () => {
    const raw = bytes(formatSse('{"a":1}'));
    expect(parseSseFrame(raw)?.raw).toEqual(raw);
  });
});
