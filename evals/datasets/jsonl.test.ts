import { expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { parseDataset } from "./jsonl.ts";

test("both forms of a row become messages and a reference", () => {
  const rows = parse(
    '{"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}',
    '{"input":"2 + 2 =","ideal":"4"}',
    '{"input":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"ideal":"","id":7,"metadata":{"from":"x"}}',
  );
  expect(rows).toEqual([
    {
      messages: [
        { role: "system", content: "s" },
        { role: "user", content: "q" },
      ],
      reference: "a",
    },
    { messages: [{ role: "user", content: "2 + 2 =" }], reference: "4" },
    { messages: [{ role: "user", content: [{ type: "text", text: "hi" }] }], reference: "" },
  ]);
});

test("empty lines, CRLF and a byte order mark are passed over", () => {
  const row = '{"input":"q","ideal":"ä"}';
  expect(parseDataset(bytes(`\ufeff${row}\r\n\r\n  \n${row}`), limits)).toHaveLength(2);
});

test.each([
  ["no JSON", "{", "Line 2", "not JSON"],
  ["an array", "[]", "Line 2", "not a JSON object"],
  ["neither form", '{"prompt":"q"}', "Line 2", "neither 'messages' nor 'input'"],
  [
    "no reference",
    '{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}',
    "Line 2",
    "must be the assistant's",
  ],
  ["a lone message", '{"messages":[{"role":"assistant","content":"a"}]}', "Line 2", "messages"],
  [
    "an unknown role",
    '{"messages":[{"role":"bot","content":"a"},{"role":"assistant","content":"b"}]}',
    "Line 2",
    "messages[0].role",
  ],
  [
    "no text in the reference",
    '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null}]}',
    "Line 2",
    "may say nothing",
  ],
  ["no ideal", '{"input":"q"}', "Line 2", "'ideal'"],
  ["tools, which a run does not send", '{"input":"q","ideal":"a","tools":[]}', "Line 2", "tools"],
])("%s is refused with the line's number", (_, line, where, why) => {
  const error = thrownBy(() => parse('{"input":"q","ideal":"a"}', line));
  expect(error.code).toBe("invalid_dataset");
  expect(error.message).toContain(where);
  expect(error.message).toContain(why);
  expect(error.details).toEqual({ line: 2 });
});

test("text that is not UTF-8, long lines, too many rows and no rows are refused", () => {
  expect(
    thrownBy(() => parseDataset(new Uint8Array([0x22, 0xff, 0x22]), limits)).message,
  ).toContain("UTF-8");
  expect(thrownBy(() => parse(`{"input":"${"x".repeat(2000)}","ideal":""}`)).message).toContain(
    "1000 bytes",
  );
  const row = '{"input":"q","ideal":"a"}';
  expect(thrownBy(() => parse(row, row, row, row)).message).toContain("Line 4");
  expect(thrownBy(() => parseDataset(bytes("\n\n"), limits)).message).toContain("no rows");
});

const limits = { datasetRowsMax: 3, datasetLineBytesMax: 1000 };

function parse(...lines: string[]) {
  return parseDataset(bytes(lines.join("\n")), limits);
}

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function thrownBy(action: () => unknown): HubError {
  try {
    action();
  } catch (error) {
    if (error instanceof HubError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
