import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { splitMultipart } from "./multipart.ts";

const limits = { a: { bytesMax: 100_000 }, b: { bytesMax: 100 } };
const type = "multipart/form-data; boundary=XX";
const part = (name: string, content: string) =>
  `--XX\r\nContent-Disposition: form-data; name="${name}"; filename="../../x"\r\n\r\n${content}\r\n`;
const split = (body: string, contentType: string | null = type) =>
  splitMultipart(Buffer.from(body, "latin1"), contentType, limits);
const codeOf = (action: () => unknown) => {
  try {
    action();
  } catch (error) {
    if (error instanceof HubError) return error.code;
    throw error;
  }
  throw new Error("expected a refusal");
};

describe("splitMultipart", () => {
  test("gives back any bytes that fetch put into a form, boundaries and line ends included", async () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 100 }),
      fc.constantFrom("", "\r\n", "\r\n--", "--", "\r\n\r\n").map((text) => Buffer.from(text)),
    );
    await fc.assert(
      fc.asyncProperty(bytes, bytes, async (a, b) => {
        const form = new FormData();
        form.set("a", new Blob([Uint8Array.from(a)]));
        form.set("b", new Blob([Uint8Array.from(b)]));
        const request = new Request("http://x", { method: "POST", body: form });
        const body = Buffer.from(await request.arrayBuffer());
        const parts = splitMultipart(body, request.headers.get("content-type"), limits);
        expect([...parts.a]).toEqual([...a]);
        expect([...parts.b]).toEqual([...b]);
      }),
    );
  });

  test("shares memory with the body, because weights are large", () => {
    const body = Buffer.from(`${part("a", "1")}${part("b", "2")}--XX--`);
    expect(splitMultipart(body, type, limits).a.buffer).toBe(body.buffer);
  });

  test.each([
    ["no boundary", part("a", ""), "application/json", "unsupported_media_type"],
    ["no header", part("a", ""), null, "unsupported_media_type"],
    ["an unknown part", `${part("c", "")}--XX--`, type, "invalid_value"],
    ["an inherited name", `${part("__proto__", "")}--XX--`, type, "invalid_value"],
    ["a part twice", `${part("a", "")}${part("a", "")}--XX--`, type, "invalid_value"],
    ["a missing part", `${part("a", "")}--XX--`, type, "missing_required_parameter"],
    ["a part that is too large", `${part("b", "x".repeat(101))}--XX--`, type, "request_too_large"],
    ["no end", part("a", ""), type, "invalid_value"],
    ["something before the boundary", `x${part("a", "")}--XX--`, type, "invalid_value"],
    ["nothing", "", type, "invalid_value"],
  ])("refuses a form with %s", (_, body, contentType, code) => {
    expect(codeOf(() => split(body, contentType))).toBe(code);
  });

  test("throws nothing but HubError, whatever is cut off or changed", () => {
    const whole = Buffer.from(`${part("a", "12\r\n")}${part("b", "34")}--XX--\r\n`);
    fc.assert(
      fc.property(fc.nat(whole.length), fc.nat(whole.length - 1), fc.nat(255), (end, at, value) => {
        const changed = Buffer.from(whole);
        changed[at] = value;
        for (const body of [changed, changed.subarray(0, end)]) {
          try {
            splitMultipart(body, type, limits);
          } catch (error) {
            expect(error).toBeInstanceOf(HubError);
          }
        }
      }),
      { numRuns: 1000 },
    );
  });
});
