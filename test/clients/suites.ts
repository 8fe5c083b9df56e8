/** All clients and suites, in the order in which they run. */
import { openAiNodeTests, openAiPythonTests } from "./api-resources.ts";
import { incompatibilitiesInPython } from "./incompatibilities.ts";
import { openResponses } from "./open-responses.ts";
import { openApiDocument } from "./openapi.ts";
import { npmSuite, pypiSuite, type Suite } from "./suite.ts";

export const suites: readonly Suite[] = [
  openAiNodeTests,
  openAiPythonTests,
  openResponses,
  npmSuite("ai-sdk", {
    ai: "^6",
    "@ai-sdk/openai": "^3",
    "@ai-sdk/openai-compatible": "^2",
    "@ai-sdk/anthropic": "^3",
    "@ai-sdk/google": "^3",
    zod: "^4",
  }),
  npmSuite("agents", { "@openai/agents": "^0.20", openai: "^6", zod: "^4" }),
  npmSuite("langchain", {
    "@langchain/openai": "~1.5",
    "@langchain/anthropic": "^1",
    "@langchain/core": "^1",
    zod: "^4",
  }),
  npmSuite("instructor", { "@instructor-ai/instructor": "^1.7", openai: "^4", zod: "^3" }),
  npmSuite("anthropic", { "@anthropic-ai/sdk": "^1" }),
  npmSuite("google", { "@google/genai": "^2" }),
  npmSuite("aws", { "@aws-sdk/client-bedrock-runtime": "^3", "@smithy/node-http-handler": "*" }),
  npmSuite("codex", { "@openai/codex": "~0.169" }),
  npmSuite("opencode", { "opencode-ai": "^1" }),
  pypiSuite("langchain-python", ["langchain-openai", "langchain-anthropic"]),
  pypiSuite("instructor-python", ["instructor", "openai"]),
  pypiSuite("anthropic-python", ["anthropic"]),
  incompatibilitiesInPython,
  // Looks at what the others made go through the door.
  openApiDocument,
];
