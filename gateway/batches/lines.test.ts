import fc from "fast-check";
import { expect, test } from "vitest";
import { checkFile, readLine, readLines } from "./lines.ts";

const endpoint = "/v1/chat/completions";
const request = (customId: string, more: object = {}) =>
  JSON.stringify({
    custom_id: customId,
    method: "POST",
    url: endpoint,
    body: { model: "m", messages: [] },
    ...more,
  });

async function* cut(text: string, size: number): AsyncGenerator<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function check(text: string, more: object = {}) {
  const options = { endpoint, linesMax: 100, lineBytesMax: 1000, faultsMax: 11, ...more };
  return checkFile(cut(text, 7), options);
}

test("lines are those that a split of the whole text gives, wherever the bytes were cut", async () => {
  const text = fc
    .array(fc.constantFrom("a", "é", "😀", "\n", "\r\n", " ", ""))
    .map((it) => it.join(""));
  await fc.assert(
    fc.asyncProperty(text, fc.integer({ min: 1, max: 9 }), async (whole, size) => {
      const read: [number, string][] = [];
      for await (const line of readLines(cut(whole, size), 1000)) {
        if (line.type === "blank") continue;
        read.push([line.number, line.type === "text" ? line.text : line.type]);
      }
      const expected = whole
        .split("\n")
        .map((line, index): [number, string] => [index + 1, line])
        .filter(([, line]) => line.trim() !== "");
      expect(read).toEqual(expected);
    }),
  );
});

test("a right file tells how many requests it has, and the model where it is one", async () => {
  const text = `\ufeff${request("a")}\n\n${request("b")}\n`;
  expect(await check(text)).toEqual({ total: 2, model: "m", faults: [] });
  const other = request("b", { body: { model: "n" } });
  expect((await check(`${request("a")}\n${other}`)).model).toBeUndefined();
});

test("every fault is told with its line", async () => {
  const text = [
    "{",
    request("a"),
    request("a"),
    request("b", { method: "GET" }),
    request("c", { url: "/v1/embeddings" }),
    request("d", { body: { model: "m", stream: true } }),
    JSON.stringify({ method: "POST", url: endpoint, body: {} }),
    request("x".repeat(2000)),
    "[]",
    request("e", { body: { model: "m", background: true } }),
    request("f", { body: { model: "m\0" } }),
  ].join("\n");
  const { faults } = await check(text);
  expect(faults.map(({ code, line, param }) => [line, code, param])).toEqual([
    [1, "invalid_json_line", null],
    [3, "duplicate_custom_id", "custom_id"],
    [4, "invalid_value", "method"],
    [5, "mismatched_url", "url"],
    [6, "unsupported_parameter", "body.stream"],
    [7, "missing_required_parameter", "custom_id"],
    [7, "missing_required_parameter", "body.model"],
    [8, "line_too_long", null],
    [9, "invalid_type", null],
    [10, "unsupported_parameter", "body.background"],
    [11, "invalid_value", "body.model"],
  ]);
});

test("bytes that are no UTF-8 are a fault, and not other characters", async () => {
  async function* bytes() {
    yield Buffer.from([0x7b, 0xff, 0x7d, 0x0a]);
  }
  const options = { endpoint, linesMax: 1, lineBytesMax: 100, faultsMax: 1 };
  expect((await checkFile(bytes(), options)).faults).toMatchObject([{ code: "invalid_json_line" }]);
});

test("an empty file, too many lines and too many faults are told as such", async () => {
  expect((await check("\n\n")).faults).toMatchObject([{ code: "empty_file", line: null }]);
  const many = ["a", "b", "c"].map((it) => request(it)).join("\n");
  expect((await check(many, { linesMax: 2 })).faults).toMatchObject([{ code: "too_many_tasks" }]);
  expect((await check("\n".repeat(200))).faults).toMatchObject([{ code: "too_many_tasks" }]);
  expect((await check("{\n".repeat(50), { faultsMax: 3 })).faults).toHaveLength(3);
});

test("a body keeps its own characters", () => {
  const body = '{"model":"m","seed":12345678901234567890}';
  const text = `{"custom_id":"a","method":"POST","url":"${endpoint}","body":${body}}`;
  const line = readLine({ number: 1, type: "text", text }, endpoint);
  if (Array.isArray(line)) throw new Error("the line is right");
  expect(line.body()).toBe(body);
});
