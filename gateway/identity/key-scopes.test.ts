import { expect, test } from "vitest";
import { testKey, testProject, testSnapshot } from "../../test/support/policy.ts";
import { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { Identity } from "./identity.ts";
import { mayUse } from "./key-scopes.ts";

const acme = testProject("acme");
const text = "sk-sy-0123456789abcdef";

function identityOf(change: Partial<ReturnType<typeof testKey>>) {
  const key = { ...testKey(text, { projectId: acme.id }), ...change };
  const snapshot = new SnapshotIndex(testSnapshot({ projects: [acme], keys: [key] }));
  return new Identity({
    snapshot: () => snapshot,
    now: () => Date.parse("2026-01-02"),
    cacheMax: 9,
  });
}

test.each([
  ["/v1/embeddings", "10.1.1.1", true],
  ["/v1/chat/completions", "10.1.1.1", false],
  ["/v1/files/file-1/content", "10.1.1.1", true],
  ["/v1/filesystem", "10.1.1.1", false],
  ["/v1/embeddings", "11.1.1.1", false],
  ["/v1/embeddings", undefined, false],
])("a key for some endpoints and addresses at %s from %s: %s", (path, address, passes) => {
  const identity = identityOf({
    scopes: { endpoints: ["/v1/embeddings", "/v1/files/"], addresses: ["10.0.0.0/8"] },
  });
  const admit = () => identity.refuseOutside(`Bearer ${text}`, { method: "POST", path, address });
  if (passes) admit();
  else expect(admit).toThrow(expect.objectContaining({ code: "permission_denied" }));
});

test.each([
  ["GET", "/v1/models", ["/v1/models"], true],
  ["GET", "/v1/models/gemini-3-pro", ["/v1/models"], true],
  ["POST", "/v1/models/gemini-3-pro:generateContent", ["/v1/models"], false],
  ["POST", "/v1/models/gemini-3-pro%3AstreamGenerateContent", ["/v1/models/"], false],
  ["POST", "/v1/models/gemini-3-pro:countTokens", ["/v1/models", "/v1/embeddings"], false],
  ["POST", "/v1/models/gemini-3-pro:generateContent", ["/v1beta/models"], true],
  ["POST", "/v1beta/models/gemini-3-pro:generateContent", ["/v1/models"], false],
  ["POST", "/v1/models/pro:generateContent", ["/v1/models/pro:generateContent"], true],
  ["POST", "/v1/models/pro:generateContent", ["/v1"], true],
  ["GET", "/v1beta/models", ["/v1/models"], false],
])("the list of models is not the models: %s %s for %s: %s", (method, path, endpoints, passes) => {
  const identity = identityOf({ scopes: { endpoints } });
  const admit = () =>
    identity.refuseOutside(`Bearer ${text}`, { method, path, address: undefined });
  if (passes) admit();
  else expect(admit).toThrow(expect.objectContaining({ code: "permission_denied" }));
});

test("what is no key, and a key for everything, are no matter of scopes", () => {
  const from = { method: "GET", path: "/v1/models", address: undefined };
  identityOf({}).refuseOutside(`Bearer ${text}`, from);
  identityOf({}).refuseOutside("Bearer sk-sy-unknown", from);
  identityOf({}).refuseOutside(null, from);
});

test.each([
  ["tiny", true],
  ["tiny:tone", true],
  ["tiny:tone@3", true],
  ["big:tone", true],
  ["big:tone@3", true],
  ["big", false],
  ["big:other", false],
  ["auto", false],
  ["tinyhouse", false],
])("a key for 'tiny' and 'big:tone' may use %s: %s", (name, may) => {
  expect(mayUse(name, ["tiny", "big:tone"])).toBe(may);
  expect(mayUse(name, undefined)).toBe(true);
});

test("a rotated key's old text goes on until its end, and is the same key", () => {
  const rotated = testKey("sk-sy-new-text-of-the-key", { projectId: acme.id });
  const old = testKey(text, { projectId: acme.id }).hash;
  const until = (at: string) => identityOf({ ...rotated, previous: { hash: old, until: at } });
  const id = until("2026-01-03T00:00:00Z").identifyProject(`Bearer ${text}`).key.id;
  expect(id).toBe(rotated.id);
  expect(() => until("2026-01-01T00:00:00Z").identify(`Bearer ${text}`)).toThrow(/expired at/);
  until("2026-01-01T00:00:00Z").identify("Bearer sk-sy-new-text-of-the-key");
});
