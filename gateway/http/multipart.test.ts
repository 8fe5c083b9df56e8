import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { readField, readForm } from "./multipart.ts";

type ReadPart = { name: string; filename: string | undefined; bytes: Buffer };

const type = "multipart/form-data; boundary=XX";
const part = (name: string, content: string, more = "") =>
  `--XX\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${content}\r\n`;

/** A body that comes in pieces that are cut at these places. */
function asRequest(bytes: Uint8Array, contentType: string | null, cuts: readonly number[] = []) {
  const places = [...new Set([0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length])];
  places.sort((a, b) => a - b);
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const [index, place] of places.entries()) {
        const piece = bytes.slice(place, places[index + 1] ?? bytes.length);
        if (piece.length > 0) controller.enqueue(piece);
      }
      controller.close();
    },
  });
  return {
    body,
    headers: new Headers(contentType === null ? {} : { "content-type": contentType }),
  };
}

async function readAll(request: ReturnType<typeof asRequest>): Promise<ReadPart[]> {
  const parts: ReadPart[] = [];
  for await (const { name, filename, chunks } of readForm(request, { partsMax: 4 })) {
    const pieces: Uint8Array[] = [];
    for await (const chunk of chunks) pieces.push(chunk);
    parts.push({ name, filename, bytes: Buffer.concat(pieces) });
  }
  return parts;
}

async function codeOf(action: () => Promise<unknown>): Promise<string> {
  try {
    await action();
  } catch (error) {
    if (error instanceof HubError) return error.code;
    throw error;
  }
  throw new Error("expected a refusal");
}

describe("readForm", () => {
  test("gives back any bytes that fetch put into a form, cut anywhere on the way", async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc.constantFrom("", "\r\n", "\r\n--", "--", "\r\n\r\n").map((text) => Buffer.from(text)),
    );
    await fc.assert(
      fc.asyncProperty(bytes, fc.array(fc.nat(), { maxLength: 20 }), async (file, cuts) => {
        const form = new FormData();
        form.set("purpose", "batch");
        form.set("file", new Blob([Uint8Array.from(file)]), 'a "name" für \\ x.jsonl');
        const sent = new Request("http://x", { method: "POST", body: form });
        const body = new Uint8Array(await sent.arrayBuffer());
        const parts = await readAll(asRequest(body, sent.headers.get("content-type"), cuts));
        expect(parts.map(({ name }) => name)).toEqual(["purpose", "file"]);
        expect(parts[1]?.filename).toBe('a "name" für \\ x.jsonl');
        expect([...(parts[1]?.bytes ?? [])]).toEqual([...file]);
      }),
    );
  });

  test("skips what is not read of a part", async () => {
    const body = Buffer.from(`${part("a", "x".repeat(5000))}${part("b", "2")}--XX--`);
    const names: string[] = [];
    for await (const { name, chunks } of readForm(asRequest(body, type, [700, 900]), {
      partsMax: 4,
    })) {
      names.push(name);
      for await (const _ of chunks) break;
    }
    expect(names).toEqual(["a", "b"]);
  });

  test("a body is not read faster than its parts are", async () => {
    let pulled = 0;
    const opening = Buffer.from(part("a", "").slice(0, -2));
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          controller.enqueue(pulled++ === 0 ? opening : new Uint8Array(1 << 16));
        },
      },
      { highWaterMark: 0 },
    );
    const form = readForm(
      { body, headers: new Headers({ "content-type": type }) },
      { partsMax: 1 },
    );
    const { value } = await form.next();
    await value?.chunks[Symbol.asyncIterator]().next();
    expect(pulled).toBe(2);
  });

  test.each([
    ["no boundary", part("a", ""), "multipart/form-data", "unsupported_media_type"],
    ["another type", part("a", ""), "application/json", "unsupported_media_type"],
    ["no header", part("a", ""), null, "unsupported_media_type"],
    ["headers without end", `--XX\r\n${"x".repeat(100_000)}`, type, "invalid_value"],
    [
      "a name without end",
      part("a", "", `; filename="${"x".repeat(9000)}"`),
      type,
      "invalid_value",
    ],
    ["no name", "--XX\r\nContent-Type: text/plain\r\n\r\n1\r\n--XX--", type, "invalid_value"],
    ["too many parts", `${part("a", "").repeat(5)}--XX--`, type, "invalid_value"],
    ["no end", part("a", ""), type, "invalid_value"],
    ["an end in a boundary", `${part("a", "1")}--X`, type, "invalid_value"],
    ["something before the boundary", `x${part("a", "")}--XX--`, type, "invalid_value"],
    ["nothing", "", type, "invalid_value"],
  ])("refuses a form with %s", async (_, body, contentType, code) => {
    const request = asRequest(Buffer.from(body), contentType);
    expect(await codeOf(() => readAll(request))).toBe(code);
  });

  test("a field has a bound of its own", async () => {
    const request = asRequest(Buffer.from(`${part("a", "12345")}--XX--`), type);
    const read = async () => {
      for await (const it of readForm(request, { partsMax: 1 })) await readField(it, 4);
    };
    expect(await codeOf(read)).toBe("request_too_large");
  });

  test("throws nothing but HubError, whatever is cut off or changed", async () => {
    const whole = Buffer.from(`${part("a", "12\r\n")}${part("b", "34")}--XX--\r\n`);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(whole.length),
        fc.nat(whole.length - 1),
        fc.nat(255),
        async (end, at, value) => {
          const changed = Buffer.from(whole);
          changed[at] = value;
          for (const body of [changed, changed.subarray(0, end)]) {
            await readAll(asRequest(body, type, [at])).catch((error) => {
              expect(error).toBeInstanceOf(HubError);
            });
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
