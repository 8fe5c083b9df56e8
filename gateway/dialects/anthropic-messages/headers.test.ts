/** The headers that Anthropic's clients look for, made from ours. */
import { expect, test } from "vitest";
import { formatGoDuration } from "../../limits/headers.ts";
import { addAnthropicHeaders, travellingHeaders } from "./headers.ts";

test("limits are told under Anthropic's names, and resets as the time that they are", () => {
  const nowMs = Date.UTC(2026, 10, 21);
  for (const ms of [0, 12, 8640, 61_000, 3_600_000, 3_723_004]) {
    const headers = new Headers({
      "x-request-id": "req_1",
      "x-ratelimit-limit-tokens": "100",
      "x-ratelimit-remaining-tokens": "7",
      "x-ratelimit-reset-tokens": formatGoDuration(ms),
      "access-control-expose-headers": "x-request-id",
    });
    addAnthropicHeaders(headers, nowMs);
    expect(Object.fromEntries(headers)).toMatchObject({
      "request-id": "req_1",
      "anthropic-ratelimit-tokens-limit": "100",
      "anthropic-ratelimit-tokens-remaining": "7",
      "anthropic-ratelimit-tokens-reset": new Date(nowMs + ms).toISOString(),
      "access-control-expose-headers": expect.stringMatching(/^x-request-id, request-id, /),
    });
    expect(headers.has("anthropic-ratelimit-requests-limit")).toBe(false);
  }
});

test("an answer without limits has no headers about them", () => {
  const headers = new Headers({ "content-type": "application/json" });
  addAnthropicHeaders(headers, 0);
  expect([...headers.keys()]).toEqual(["content-type"]);
});

test("version and beta features travel, and nothing else does", () => {
  const asked = (headers: Record<string, string>) =>
    travellingHeaders(new Request("http://a", { headers: { cookie: "a=b", ...headers } }));
  expect(asked({})).toEqual({ "anthropic-version": "2023-06-01" });
  expect(asked({ "anthropic-version": "2026-10-21", "anthropic-beta": "a,b" })).toEqual({
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "a,b",
  });
  expect(() => asked({ "anthropic-version": "2023-01-01" })).toThrow(
    expect.objectContaining({ param: "anthropic-version" }),
  );
});
