import { describe, expect, test } from "vitest";
import { z } from "zod";
import {
  asHubError,
  errorBody,
  errorTable,
  fromZodError,
  HubError,
  invariant,
  parseOrThrow,
  toErrorBody,
  toErrorResponse,
} from "./errors.ts";

test("every code has an HTTP error's status and says what OpenAI's SDKs may retry", () => {
  for (const [code, { status, retry }] of Object.entries(errorTable)) {
    expect([code, status >= 400 && status < 600]).toEqual([code, true]);
    // Official SDKs retry 408, 409, 429 and 5xx by themselves; only those may promise that it helps.
    if (retry)
      expect([code, [408, 409, 429].includes(status) || status >= 500]).toEqual([code, true]);
  }
});

test("an error's envelope has OpenAI's four keys, and details where there are any", () => {
  expect(toErrorBody(new HubError("invalid_json", "bad"))).toEqual({
    error: { message: "bad", type: "invalid_request_error", param: null, code: "invalid_json" },
  });
  const detailed = toErrorBody(new HubError("alias_moved", "moved", { details: { current: 3 } }));
  expect(errorBody.parse(detailed).error.details).toEqual({ current: 3 });
});

test("what is not meant for clients tells them nothing", () => {
  const body = JSON.stringify(toErrorBody(new Error("password is hunter2")));
  expect(body).not.toContain("hunter2");
  expect(asHubError(new Error("x"))).toMatchObject({ code: "internal_error", status: 500 });
});

test("an error may bring headers of its own", () => {
  const headers = { "x-ratelimit-remaining-requests": "0" };
  const response = toErrorResponse(new HubError("rate_limit_exceeded", "slow down", { headers }));
  expect(Object.fromEntries(response.headers)).toMatchObject(headers);
});

test("a response says whether and when to try again", async () => {
  const limited = toErrorResponse(
    new HubError("rate_limit_exceeded", "slow down", { retryAfterMs: 250.4 }),
    { "x-request-id": "req_1" },
  );
  expect(limited.status).toBe(429);
  expect(Object.fromEntries(limited.headers)).toMatchObject({
    "content-type": "application/json",
    "x-should-retry": "true",
    "retry-after-ms": "251",
    "retry-after": "1",
    "x-request-id": "req_1",
  });
  const spent = toErrorResponse(new HubError("insufficient_quota", "empty"));
  expect(spent.headers.get("x-should-retry")).toBe("false");
  expect(spent.headers.has("retry-after")).toBe(false);
  expect(errorBody.parse(await spent.json()).error.type).toBe("insufficient_quota");
});

describe("a schema's first problem becomes an error that names the field", () => {
  const schema = z.object({
    model: z.string(),
    n: z.int().max(3).optional(),
    limit: z.strictObject({}).optional(),
    scorer: z.discriminatedUnion("type", [z.object({ type: z.literal("exact") })]).optional(),
    either: z.object({ one: z.union([z.string(), z.int()]) }).optional(),
    stop: z.union([z.string(), z.array(z.string())]).optional(),
    messages: z.array(z.object({ role: z.enum(["user"]) })).optional(),
    part: z
      .union([z.object({ type: z.literal("text") }), z.object({ type: z.string() })])
      .optional(),
  });
  const cases = [
    [{}, "missing_required_parameter", "model", "Missing required parameter: 'model'."],
    [{ model: 5 }, "invalid_type", "model", "'model'"],
    [{ model: "m", n: 9 }, "number_out_of_range", "n", "'n'"],
    [{ model: "m", messages: [{ role: "king" }] }, "invalid_value", "messages[0].role", "user"],
    [{ model: "m", stop: 5 }, "invalid_type", "stop", "'stop': expected string or array."],
    [{ model: "m", stop: ["a", 5] }, "invalid_type", "stop[1]", "'stop[1]': expected string"],
    [{ model: "m", scorer: { type: "taste" } }, "invalid_value", "scorer.type", "'exact'"],
    [{ model: "m", scorer: {} }, "invalid_value", "scorer.type", "'exact'"],
    [{ model: "m", either: {} }, "missing_required_parameter", "either.one", "'either.one'"],
    [{ model: "m", part: {} }, "missing_required_parameter", "part.type", "'part.type'"],
    [{ model: "m", limit: { rpm: 1 } }, "invalid_value", "limit.rpm", "parameter: 'limit.rpm'."],
    [null, "invalid_type", undefined, "the request body: expected object, received null."],
    [[], "invalid_type", undefined, "the request body: expected object, received array."],
  ] as const;
  test.each(cases)("%j is %s at %s", (data, code, param, words) => {
    try {
      parseOrThrow(schema, data);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(HubError);
      expect(error).toMatchObject({ code, param });
      expect((error as HubError).message).toContain(words);
    }
  });

  test("a prefix says which part of a larger body it was", () => {
    const parsed = schema.safeParse({ model: 5 });
    expect(parsed.error && fromZodError(parsed.error, "candidates[0].").param).toBe(
      "candidates[0].model",
    );
    const whole = schema.safeParse(null);
    expect(whole.error && fromZodError(whole.error, "manifest.").param).toBe("manifest");
  });

  test("a field that is there and null is of the wrong type, and not missing", () => {
    expect(() => parseOrThrow(schema, { model: null })).toThrow(
      expect.objectContaining({ code: "invalid_type" }),
    );
  });
});

test("a broken promise inside the program throws", () => {
  expect(() => invariant(1 > 0, "order of numbers")).not.toThrow();
  expect(() => invariant(false, "free + used = total")).toThrow("free + used = total");
});
