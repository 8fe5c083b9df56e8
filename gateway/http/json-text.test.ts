import fc from "fast-check";
import { expect, test } from "vitest";
import { readChatCall } from "../dialects/openai-chat/request.ts";
import { writeOpenAiRequest } from "../providers/openai/request.ts";
import { readJsonBody } from "./body.ts";
import { hasMoreValues, isNestedDeeper, membersOf } from "./json-text.ts";

const limits = { requestBytesMax: 1 << 20, requestValuesMax: 100, nestingMax: 8 };
const options = { limits, projectId: "acme", store: undefined };
const post = (body: Buffer | string | ReadableStream, headers: Record<string, string> = {}) =>
  new Request("http://gateway/", {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
    duplex: "half",
  } as RequestInit);

const object = fc.dictionary(fc.string(), fc.jsonValue());

test("the members' texts parse to what the whole text parses to, however it is spaced", () => {
  fc.assert(
    fc.property(object, fc.constantFrom(0, 1, "\t"), (value, space) => {
      const text = JSON.stringify(value, null, space);
      const parsed = [...membersOf(text)].map(([name, member]) => [name, JSON.parse(member)]);
      expect(Object.fromEntries(parsed)).toEqual(JSON.parse(text));
    }),
  );
});

test("of several members with one name the last counts, as it does when parsed", () => {
  expect([...membersOf('{"a":1,"\\u0061": [2, {"a":3}] }')]).toEqual([["a", '[2, {"a":3}]']]);
});

test("depth counts brackets in one another, and none inside strings", () => {
  expect(isNestedDeeper('{"a":[[1]],"b":"[[[[\\"[[["}', 3)).toBe(false);
  expect(isNestedDeeper('{"a":[[[1]]]}', 3)).toBe(true);
});

test("values are counted wherever they are, and none inside strings", () => {
  const count = (value: unknown): number =>
    typeof value === "object" && value !== null
      ? Object.values(value).reduce<number>((sum, one) => sum + 1 + count(one), 0)
      : 0;
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(0, 1, "\t"), (value, space) => {
      const text = JSON.stringify(value, null, space);
      const values = count(value);
      expect(hasMoreValues(text, 3 * values + 2)).toBe(false);
      if (values > 0) expect(hasMoreValues(text, values - 1)).toBe(true);
    }),
  );
  expect(hasMoreValues(`"${",[{".repeat(10)}"`, 1)).toBe(false);
});

test("a body of more values than are accepted is refused before anybody looks at them", async () => {
  const { requestValuesMax } = limits;
  const messages = Array.from({ length: requestValuesMax }, () => 1);
  await expect(readChatCall(post(JSON.stringify({ messages })), options)).rejects.toMatchObject({
    code: "request_too_large",
    message: expect.stringContaining(`${requestValuesMax} values`),
  });
});

test("numbers that no double holds reach the upstream as they came, duplicates once", async () => {
  const body = `{"model":"m","seed":1,"stream":true,"seed": 9223372036854775807,
    "messages":[{"role":"user","content":"\\ud800 1e400 \\u0000"}],
    "huge":{"a":1e400},"model":"asked","stream_options":{"include_obfuscation":false}}`;
  const call = await readChatCall(post(body), options);
  const request = writeOpenAiRequest(
    { ...call, format: "openai-chat" },
    { upstreamModel: "sent", apiKey: undefined },
  );
  expect(request.body).toContain('"seed":9223372036854775807');
  expect(request.body).toContain('"huge":{"a":1e400}');
  expect(request.body.match(/"(model|seed)":/g)).toHaveLength(2);
  expect(JSON.parse(request.body)).toMatchObject({
    model: "sent",
    stream_options: { include_obfuscation: false, include_usage: true },
    messages: [{ content: "\ud800 1e400 \u0000" }],
  });
});

test("a byte order mark is no part of the JSON, with a length or without", async () => {
  const bytes = Buffer.from('\ufeff{"a":1}');
  const whole = post(bytes, { "content-length": String(bytes.length) });
  const stream = post(new Blob([bytes]).stream());
  for (const request of [whole, stream])
    expect((await readJsonBody(request, limits)).value).toEqual({ a: 1 });
});

test("a compressed body is refused by what it is, not as broken JSON", async () => {
  const request = post(Buffer.from([0x1f, 0x8b, 8, 0]), { "content-encoding": "gzip" });
  await expect(readJsonBody(request, limits)).rejects.toMatchObject({
    code: "unsupported_media_type",
    message: expect.stringContaining("gzip"),
  });
});
