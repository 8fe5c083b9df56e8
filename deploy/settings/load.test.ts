import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parseSettings, StartError } from "./load.ts";

/** The one line that a wrong file is refused with. */
function refusal(text: string): string {
  try {
    parseSettings(text, "switchyard.yaml");
  } catch (error) {
    if (error instanceof StartError) return error.message;
    throw error;
  }
  throw new Error("the settings were accepted");
}

test("every settings file that we ship is right", () => {
  const folder = new URL("./", import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith(".yaml"));
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) parseSettings(readFileSync(new URL(file, folder), "utf8"), file);
});

test("an empty file is a gateway with nothing behind it, on the usual address", () => {
  expect(parseSettings("", "x")).toMatchObject({
    host: "127.0.0.1",
    port: 8787,
    models: [],
    embedded: null,
  });
});

test("limits of the gateway, of its metering and of one upstream are settings", () => {
  const settings = parseSettings(
    [
      "gateway: { requestBytesMax: 1000, breakerOpenMs: 50 }",
      "metering: { redisDownShare: 0.25 }",
      "upstreams: [{ name: u, type: openai, baseUrl: 'http://h', firstByteTimeoutMs: 5000 }]",
    ].join("\n"),
    "x",
  );
  expect(settings.gateway).toMatchObject({ requestBytesMax: 1000, attemptsMax: 4 });
  expect(settings.metering).toMatchObject({ redisDownShare: 0.25, syncWithinMs: 20 });
  expect(settings.upstreams[0]?.firstByteTimeoutMs).toBe(5000);
});

test("an upstream may have several keys and places, and a route whom to ask after which failure", () => {
  const settings = parseSettings(
    [
      "upstreams:",
      "  - name: pool",
      "    type: vllm",
      "    balance: least-busy",
      "    stickyBy: prefix",
      "    hedge: {}",
      "    deployments:",
      "      - { name: near, baseUrl: 'http://a/v1', weight: 2, keys: [KEY_A, KEY_B] }",
      "      - { name: far, baseUrl: 'http://b/v1', tier: 1 }",
      "  - { name: aws, type: bedrock, region: us-east-1, deployments: [{ name: eu, region: eu-west-1 }] }",
      "routes:",
      "  - { name: auto, defaultModel: m, fallbackOn: { rate_limit_exceeded: [] } }",
    ].join("\n"),
    "x",
  );
  expect(settings.upstreams[0]).toMatchObject({ hedge: { shareMax: 0.05 }, balance: "least-busy" });
  expect(settings.upstreams[1]?.deployments).toEqual([{ name: "eu", region: "eu-west-1" }]);
  expect(settings.routes[0]?.fallbackOn).toEqual({ rate_limit_exceeded: [] });
});

describe("a wrong file is refused with line and field", () => {
  test.each([
    ["an unknown setting", "port: 1\nprot: 2\n", "switchyard.yaml:2: prot: no such setting"],
    [
      "a wrong type",
      "port: eighty\n",
      "switchyard.yaml:1: port: Invalid input: expected number, received string",
    ],
    [
      "more pinned adapters than there is room for",
      "embedded:\n  id: m\n  folder: .\n  adapterSlots: 1\n  adapters:\n    - { name: a, folder: a, load: pinned }\n",
      "switchyard.yaml:6: embedded.adapters: as many are pinned as there are slots (`adapterSlots`); one has to stay for others",
    ],
    [
      "a limit that does not exist",
      "gateway:\n  requestBytesMx: 1\n",
      "switchyard.yaml:2: gateway.requestBytesMx: no such setting",
    ],
    [
      "a price that is a float",
      "embedded:\n  id: m\n  folder: f\n  prices: { input: 0.1, output: '1' }\n",
      'switchyard.yaml:4: embedded.prices.input: write the price in quotes, such as "0.15"',
    ],
    [
      "a price finer than a pico-dollar a token",
      "embedded:\n  id: m\n  folder: f\n  prices: { input: '0.0000001', output: '1' }\n",
      "switchyard.yaml:4: embedded.prices.input: expected dollars for a million tokens",
    ],
    [
      "a base that is nowhere",
      "embedded:\n  id: m\n",
      "switchyard.yaml:2: embedded.folder: expected either `folder` or `model`",
    ],
    [
      "a base in two places",
      "embedded:\n  id: m\n  folder: f\n  model: hf:a/b\n",
      "switchyard.yaml:3: embedded.folder: expected either `folder` or `model`",
    ],
    [
      "a path where a pulled model is meant",
      "embedded:\n  id: m\n  model: ./f\n",
      "switchyard.yaml:3: embedded.model: expected what was pulled",
    ],
    [
      "two models of one name",
      "upstreams: [{ name: u, type: openai, baseUrl: 'http://h' }]\nmodels:\n  - { id: m, upstream: u }\n  - { id: m, upstream: u }\n",
      'switchyard.yaml:3: models: two models are called "m"',
    ],
    [
      "an upstream called as the engine is",
      "upstreams: [{ name: embedded, type: openai, baseUrl: 'http://h' }]\n",
      "switchyard.yaml:1: upstreams[0].name: is the engine of this process",
    ],
    [
      "a credential in the file",
      "upstreams:\n  - name: u\n    type: openai\n    baseUrl: http://h\n    apiKey: sk-secret\n",
      "switchyard.yaml:5: upstreams[0].apiKey: no such setting",
    ],
    [
      "a place of another kind",
      "upstreams:\n  - { name: u, type: openai, deployments: [{ name: a, region: eu }] }\n",
      "switchyard.yaml:2: upstreams[0].deployments[0].region: no such setting",
    ],
    [
      "a task without candidates",
      "routes:\n  - name: auto\n    defaultModel: m\n    tasks:\n      - task: t\n        qualityFloor: 0.5\n        candidates: []\n",
      "switchyard.yaml:7: routes[0].tasks[0].candidates: Too small",
    ],
  ])("%s", (_, text, message) => {
    expect(refusal(text)).toContain(message);
  });
});
