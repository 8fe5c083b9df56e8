/** GGUF headers, well-made and hostile; the files are in the shared fixtures, where those are at hand. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { GgufCheckpoint } from "./checkpoint.ts";
import { parseGgufHeader } from "./header.ts";

const broken = fileURLToPath(
  new URL("../../../../shared/fixtures/families/gguf/broken", import.meta.url),
);
const outcomes: Record<string, { serve: string; why: string }> = existsSync(broken)
  ? JSON.parse(readFileSync(`${broken}/expect.json`, "utf8"))
  : {};

/** Version 3, one metadata entry `a: uint32 = 7`, one F32 tensor `t` of shape [2, 1]. */
function wellMade(): Uint8Array {
  const text = (value: string) => [...uint(value.length, 8), ...new TextEncoder().encode(value)];
  const header = [
    ...new TextEncoder().encode("GGUF"),
    ...uint(3, 4),
    ...uint(1, 8),
    ...uint(1, 8),
    ...text("a"),
    ...uint(4, 4),
    ...uint(7, 4),
    ...text("t"),
    ...uint(2, 4),
    ...uint(1, 8),
    ...uint(2, 8),
    ...uint(0, 4),
    ...uint(0, 8),
  ];
  const padding = 32 - (header.length % 32);
  return Uint8Array.from([...header, ...new Array(padding + 8).fill(0)]);
}

function uint(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256);
}

test("a header is read with its metadata, and its tensors outermost axis first", () => {
  const bytes = wellMade();
  const header = parseGgufHeader(bytes, bytes.length);
  expect(header?.metadata.get("a")).toBe(7);
  expect(header?.tensors.get("t")).toMatchObject({
    shape: [2, 1],
    begin: bytes.length - 8,
    end: bytes.length,
  });
});

test("a first part that ends within the header asks for more, wherever it ends", () => {
  const bytes = wellMade();
  const headerBytes = 24 + 9 + 8 + 9 + 4 + 16 + 12;
  for (let length = 0; length < headerBytes; length++) {
    expect(parseGgufHeader(bytes.subarray(0, length), bytes.length)).toBeUndefined();
    expect(() => parseGgufHeader(bytes.subarray(0, length), length)).toThrow(HubError);
  }
});

test("any bytes in any place give a header or a refusal, never anything else", () => {
  const bytes = wellMade();
  const change = fc.record({ at: fc.nat(bytes.length - 1), to: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
      const changed = bytes.slice();
      for (const { at, to } of changes) changed[at] = to;
      try {
        parseGgufHeader(changed, changed.length);
      } catch (error) {
        expect(error).toBeInstanceOf(HubError);
      }
    }),
    { numRuns: 2_000 },
  );
});

describe.skipIf(!existsSync(broken))("broken fixtures (skipped without ../shared)", () => {
  test.each(Object.entries(outcomes))("%s: %o", async (name, { serve }) => {
    const opened = GgufCheckpoint.open(`${broken}/${name}`).then((file) => file.close());
    if (serve === "parses") await opened;
    else await expect(opened).rejects.toMatchObject({ code: "unsupported_model" });
  });
});
