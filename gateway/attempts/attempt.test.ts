import { expect, test } from "vitest";
import { testModel } from "../../test/support/policy.ts";
import { defaultLimits } from "../config.ts";
import { toChatCall } from "../dialects/openai-chat/request.ts";
import { createAnthropic } from "../providers/anthropic/index.ts";
import { timeoutsOf } from "../providers/settings.ts";
import { openPool } from "../providers/transport.ts";
import { attemptInOrder } from "./attempt.ts";
import { Breaker } from "./breaker.ts";
import { Deployment } from "./deployment.ts";
import { Upstream } from "./upstream.ts";

test("a request that our translation stumbles over closes its upstream to nobody", async () => {
  const transport = openPool({
    baseUrl: "http://127.0.0.1:9",
    connectTimeoutMs: 100,
    connectionsMax: 1,
  });
  const provider = createAnthropic({
    name: "claude",
    transport,
    timeouts: timeoutsOf({}, defaultLimits),
    apiKey: undefined,
    notConfigured: undefined,
    outputTokensDefault: 9,
  });
  const now = () => 0;
  const breaker = new Breaker({ failures: 1, openMs: 100, openMsMax: 400, now });
  const only = { name: "claude", provider, weight: 1, tier: 0, parkMs: 1, now };
  const upstream = new Upstream({
    name: "claude",
    deployments: [new Deployment({ ...only, address: breaker, key: breaker })],
    balance: "weighted",
    own: false,
    stickyBy: "named",
    hedge: undefined,
    retries: { share: 1, reserve: 1 },
    random: now,
  });
  const call = toChatCall({ model: "m", messages: [{ role: "user", content: "Hi" }] }, 60);
  const stumbles = Object.assign(call, {
    canonical() {
      throw new TypeError("startsWith is not a function");
    },
  });
  const result = await attemptInOrder({
    targets: [{ name: "m", model: testModel("m", { upstream: "claude" }) }],
    call: stumbles,
    context: { requestId: "req_1", projectId: "prj_1", startedAtMs: 0, nowMs: () => 0 },
    client: new AbortController().signal,
    clientDeadlineMs: undefined,
    upstream: () => upstream,
    inputTokens: 1,
    limits: defaultLimits,
    now: () => 0,
    random: () => 0,
  });
  expect(result).toMatchObject({
    type: "failed",
    error: { code: "internal_error", cause: new TypeError("startsWith is not a function") },
  });
  expect(result).toHaveProperty("sent", undefined);
  expect(breaker.state).toBe("closed");
  await transport.close();
});
