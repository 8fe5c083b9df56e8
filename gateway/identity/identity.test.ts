import { expect, test } from "vitest";
import type { ApiKey } from "../../sdk/protocol/catalog.ts";
import { testKey, testProject, testSnapshot } from "../../test/support/policy.ts";
import { SnapshotIndex } from "../snapshot/snapshot-index.ts";
import { Identity, maskKey } from "./identity.ts";

const acme = testProject("acme");
const text = "sk-sy-0123456789abcdef";

function identityOf(keys: ApiKey[], projects = [acme]) {
  const policy = { snapshot: new SnapshotIndex(testSnapshot({ projects, keys })), nowMs: 0 };
  const identity = new Identity({
    snapshot: () => policy.snapshot,
    now: () => policy.nowMs,
    cacheMax: 2,
  });
  return { identity, policy };
}
const code = (action: () => unknown) => {
  try {
    action();
    return "ok";
  } catch (error) {
    return (error as { code: string }).code;
  }
};

test("a project's key leads to its project, an admin's to no project", () => {
  const { identity } = identityOf([
    testKey(text, { projectId: acme.id }),
    testKey("sk-sy-admin-0123456789", { role: "admin" }),
  ]);
  expect(identity.identifyProject(`Bearer ${text}`).project).toBe(acme);
  expect(identity.identify("bearer   sk-sy-admin-0123456789 ")).toMatchObject({ type: "admin" });
  expect(code(() => identity.identifyProject("Bearer sk-sy-admin-0123456789"))).toBe(
    "permission_denied",
  );
});

test("a key that is revoked, expires, or loses its project stops working at once, cached or not", () => {
  const key = testKey(text, { projectId: acme.id, expiresAt: "1970-01-01T00:00:10Z" });
  const { identity, policy } = identityOf([key]);
  const ask = () => code(() => identity.identify(`Bearer ${text}`));
  expect(ask()).toBe("ok");
  policy.nowMs = 10_000;
  expect(ask()).toBe("invalid_api_key");
  policy.nowMs = 0;
  expect(ask()).toBe("ok");
  const replace = (keys: ApiKey[], projects = [acme]) => {
    policy.snapshot = new SnapshotIndex(testSnapshot({ projects, keys }));
  };
  replace([{ ...key, revokedAt: "1970-01-01T00:00:00Z" }]);
  expect(ask()).toBe("invalid_api_key");
  replace([]);
  expect(ask()).toBe("invalid_api_key");
  replace([key], [{ ...acme, archived: true }]);
  expect(ask()).toBe("permission_denied");
  replace([key], []);
  expect(ask()).toBe("invalid_api_key");
});

test("guesses do not push known keys out of the cache, and the cache stays bounded", () => {
  const keys = ["a", "b", "c"].map((name) => testKey(`${text}${name}`, { projectId: acme.id }));
  const { identity } = identityOf(keys);
  for (let round = 0; round < 3; round++) {
    for (const name of ["a", "b", "c"]) {
      expect(code(() => identity.identify(`Bearer ${text}${name}`))).toBe("ok");
      expect(code(() => identity.identify(`Bearer ${text}guess${round}${name}`))).toBe(
        "invalid_api_key",
      );
    }
  }
});

test("a header that holds no bearer key is a missing key", () => {
  const { identity } = identityOf([]);
  for (const header of [undefined, null, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b"]) {
    expect(code(() => identity.identify(header))).toBe("missing_api_key");
  }
  const signed = "AWS4-HMAC-SHA256 Credential=AKIA/20261122/eu-west-1/bedrock/aws4_request";
  expect(() => identity.identify(signed)).toThrow(/AWS_BEARER_TOKEN_BEDROCK/);
});

test("a masked key shows too little to use it", () => {
  expect(maskKey("sk-sy-0123456789abcdefwxyz")).toBe("sk-sy***wxyz");
  expect(maskKey("short")).toBe("***");
  expect(maskKey("s\u0000\u001b[31m0123456789abcdef")).toBe("s??[3***cdef");
});
