/**
 * What tests of foreign suites ask for that OpenAI itself refuses, or that no gateway can have. An exception holds for one
 * refusal alone: whoever fails otherwise, fails.
 */
export const exceptions: readonly { error: RegExp; tests?: RegExp; reason: string }[] = [
  {
    error: /Invalid '(max_tokens|max_completion_tokens|best_of|limit|n)': too small/,
    reason: "sends 0 where OpenAI's own document has a least of 1",
  },
  {
    error: /Missing required parameter: 'model'/,
    reason: "names no model, and a gateway to many has no default one",
  },
  {
    error: /Not allowed to DELETE on \/v1\/models/,
    reason: "the operator's models are not a client's",
  },
  {
    error: /No item with id 'after' found/,
    reason: "begins a page after something that was never there, which OpenAI refuses too",
  },
  {
    tests: /compact/,
    error: /Missing required parameter: 'input'/,
    reason: "has nothing summed up",
  },
  { error: /Unsupported parameter: 'prompt'/, reason: "names a prompt that OpenAI stores" },
  {
    error: /Unsupported parameter: 'svg\.model'/,
    reason: "asks a second model that could not be metered",
  },
  {
    tests: /^support-tiny: (Tool Calling|Image Input)/,
    error: /HTTP 400/,
    reason: "the demo's model was trained neither for tools nor for images, and says so",
  },
  {
    error: /Unsupported parameter: 'dimensions'/,
    reason: "the demo's model was not trained for fewer dimensions",
  },
  {
    error: /Mutually exclusive parameters: 'previous_response_id' and 'conversation'/,
    reason: "sends what OpenAI's document says cannot be sent together",
  },
  {
    error:
      /Unknown request URL: \w+ \/v1\/organization\/usage\/(?:vector_stores|code_interpreter_sessions|(?:file|web)_search_calls)/,
    reason: "asks for the usage of what OpenAI runs itself",
  },
  {
    error: /Unknown request URL: \w+ \/v1\/audio\/voice/,
    reason: "asks for voices, which are not served",
  },
  {
    error: /Invalid '(bytes|part_ids|md5)'/,
    reason: "completes an upload of nothing with parts that were never sent",
  },
  {
    tests: /^chat\/completions\/messages /,
    error: /assert 'user' in \('assistant',\)|invalid for expected schema/,
    reason:
      "the SDK's type has no role but the assistant's for messages that are the request's own",
  },
  {
    tests: /^embeddings /,
    error: /invalid for expected schema/,
    reason: "checks base64, which the client itself asked for, before it is decoded",
  },
];
