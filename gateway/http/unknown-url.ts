/** What is told to who asks an address that is none, or one of OpenAI's that is not served: where to go instead. */
import { HubError } from "../../sdk/protocol/errors.ts";

export function unknownUrl({ method, path }: { method: string; path: string }): HubError {
  const hint = hints.find(([addresses]) => addresses.test(path))?.[1] ?? otherwise;
  return new HubError("unknown_url", `Unknown request URL: ${method} ${path}. ${hint}`);
}

/** Beginnings of addresses; `docs/gateway.md` gives the reasons. */
const hints: readonly (readonly [RegExp, string])[] = [
  [
    // Secrets and calls of OpenAI's would open sessions that pass by this gateway, and that nobody meters.
    /^\/v1\/realtime\b/,
    "Realtime sessions open as WebSockets at '/v1/realtime?model=…', with a key of this Switchyard.",
  ],
  [
    /^\/v1\/evals\b/,
    "OpenAI's evals are not served. Quality is measured by runs at '/api/evals/runs' ('switchyard evals run').",
  ],
  [
    /^\/v1\/fine_tuning\b/,
    "OpenAI's fine-tuning is not served. Adapters that were trained elsewhere are pushed to '/api/adapters' ('switchyard adapters push').",
  ],
  [
    /^\/v1\/(?:assistants|threads)\b/,
    "OpenAI's assistants are not served. Responses ('/v1/responses') and conversations ('/v1/conversations') are.",
  ],
  [
    /^\/v1\/(?:vector_stores|containers|videos|chatkit|skills)\b/,
    "This part of OpenAI's API is not served; ask OpenAI itself for it.",
  ],
  [
    /^\/(?:chat|completions|responses|conversations|embeddings|models|messages|moderations|images|audio|files|uploads|batches)\b/,
    "Is '/v1' missing? OpenAI's clients take a base URL that ends in '/v1'.",
  ],
  [
    /^\/v1(?:beta)?\/v1(?:beta)?\//,
    "Its version stands in it twice: OpenAI's clients take a base URL that ends in '/v1', Anthropic's, Google's and AWS's one that ends before it.",
  ],
  [
    /^\/v1\/messages\/batches\b/,
    "Anthropic's batches are not served. OpenAI's ('/v1/batches') run any model.",
  ],
  [
    /^\/v1beta\/.*:(?:batchE|e)mbedContents?$/,
    "Google's embeddings are not served. OpenAI's ('/v1/embeddings') are.",
  ],
  [
    /^\/v1beta\/(?:files|cachedContents|batches|fileSearchStores|tunedModels)\b/,
    "This part of Google's API is not served; ask Google itself for it.",
  ],
  [
    /^\/model\/[^/]+\/(?:invoke|count-tokens)/,
    "Of AWS's API Converse and ConverseStream are served, by any model.",
  ],
  [
    /^\/openai\//,
    "Azure's addresses are not served. Use OpenAI's own client with a base URL that ends in '/v1', and name the model in the request.",
  ],
];

const otherwise = "Please check the URL for typos, or see the documentation of this Switchyard.";
