import { BedrockRuntimeClient } from "@aws-sdk/client-bedrock-runtime";
import { NodeHttpHandler } from "@smithy/node-http-handler";

const { SWITCHYARD_URL: endpoint, SWITCHYARD_API_KEY: token } = process.env;

export const client = new BedrockRuntimeClient({
  endpoint,
  region: "any",
  token: { token },
  authSchemePreference: ["httpBearerAuth"],
  requestHandler: new NodeHttpHandler(), // HTTP/1.1; by itself it speaks HTTP/2 to Bedrock
});
