/** End users as each dialect names them: their limit, and their row in the ledger. */
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type LoggedGateway,
  logKeys,
  openLoggedGateway,
} from "../../test/support/logged-gateway.ts";

let logged: LoggedGateway;
beforeAll(async () => {
  const rule = { kind: "requests", limit: 2, windowSeconds: 86_400, each: ["user" as const] };
  logged = await openLoggedGateway({
    acme: { limits: { rules: [{ ...rule, kind: "requests" }] } },
  });
});
afterAll(() => logged?.close());

type Ask = { path: string; body: object; headers?: Record<string, string> };
const turn = { role: "user", content: "Hello." };
const model = "gpt-test";
const chat = { model, messages: [turn] };
const messages = { ...chat, max_tokens: 9 };
const contents = [{ role: "user", parts: [{ text: "Hello." }] }];
const converse = { messages: [{ role: "user", content: [{ text: "Hello." }] }] };
const dialects: Record<
  string,
  { path: string; body: object; own: Record<string, (user: string) => object> }
> = {
  "OpenAI's chat": {
    path: "/v1/chat/completions",
    body: chat,
    own: {
      user: (user) => ({ user }),
      safety_identifier: (safety_identifier) => ({ safety_identifier }),
      both: (safety_identifier) => ({ safety_identifier, user: "another" }),
    },
  },
  "OpenAI's responses": {
    path: "/v1/responses",
    body: { model, input: "Hello.", store: false },
    own: {
      user: (user) => ({ user }),
      safety_identifier: (safety_identifier) => ({ safety_identifier }),
    },
  },
  "OpenAI's completions": {
    path: "/v1/completions",
    body: { model, prompt: "Hello." },
    own: { user: (user) => ({ user }) },
  },
  "Anthropic's messages": {
    path: "/v1/messages",
    body: messages,
    own: { "metadata.user_id": (user_id) => ({ metadata: { user_id } }) },
  },
  "Google's generateContent": {
    path: `/v1beta/models/${model}:generateContent`,
    body: { contents },
    own: { "labels.user_id": (user_id) => ({ labels: { user_id } }) },
  },
  "Amazon's Converse": {
    path: `/model/${model}/converse`,
    body: converse,
    own: { "requestMetadata.user_id": (user_id) => ({ requestMetadata: { user_id } }) },
  },
};
let made = 0;

const ways = Object.entries(dialects).flatMap(([dialect, { path, body, own }]) => [
  ...Object.entries(own).map(
    ([field, write]) =>
      [
        dialect,
        field,
        (user: string): Ask => ({ path, body: { ...body, ...write(user) } }),
      ] as const,
  ),
  [
    dialect,
    "x-switchyard-user",
    (user: string): Ask => ({ path, body, headers: { "x-switchyard-user": user } }),
  ] as const,
]);

test.each(ways)("%s names them by %s", async (_, __, write) => {
  const [ada, ben] = [`ada-${++made}`, `ben-${made}`];
  const ask = (user: string) => {
    const { path, body, headers } = write(user);
    return logged.ask(logKeys.acme, path, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
  };
  const answered = [await ask(ada), await ask(ada)];
  expect(answered.map(({ status }) => status)).toEqual([200, 200]);
  const held = await ask(ada);
  expect(held.status).toBe(429);
  expect(await held.text()).toContain("user");
  answered.push(await ask(ben));
  expect(answered.at(-1)?.status).toBe(200);
  for (const response of answered) await response.text();
  const ids = answered.map(({ headers }) => String(headers.get("x-request-id")));
  const rows = () =>
    logged.database.sql`
      select end_user, outcome from billing.requests where request_id = any(${ids}) order by end_user`;
  await expect.poll(async () => (await rows()).length, { timeout: 20_000 }).toBe(3);
  expect(await rows()).toMatchObject([
    { end_user: ada, outcome: "ok" },
    { end_user: ada, outcome: "ok" },
    { end_user: ben, outcome: "ok" },
  ]);
});
