/**
 * What a client asks of a model, in no dialect's words: every dialect is read into it, every provider's request is
 * written from it. A request whose provider speaks the client's own dialect never takes this form.
 */

export type CanonicalRequest = {
  /** As the client wrote it; where a provider's request is written from it, as the upstream calls it. */
  model: string;
  /** What stands above the conversation. */
  instructions: TextPart[];
  turns: Turn[];
  tools: Tool[];
  toolChoice?: ToolChoice;
  /** Absent: as the provider likes. */
  parallelToolCalls?: boolean;
  output?: OutputFormat;
  /** Tokens of one choice, reasoning included. */
  outputTokensMax?: number;
  choices: number;
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  frequencyPenalty?: number;
  presencePenalty?: number;
  /** By token id, -100 to 100. */
  logitBias?: Readonly<Record<string, number>>;
  seed?: number;
  stop: string[];
  /** How many of the likeliest tokens to tell with each token; absent: no log-probabilities. */
  topLogprobs?: number;
  reasoning?: Reasoning;
  /** An end user, by whatever name the client gives it. */
  user?: string;
  metadata?: Readonly<Record<string, string>>;
  stream: boolean;
  /**
   * Fields of the client's own dialect that have no place here, under the client's own names, such as
   * `service_tier`. A provider that knows one takes it; of the others the client is told.
   */
  rest: Readonly<Record<string, unknown>>;
};

/** Tool results stand in turns of their own, each after the call that it answers. */
export type Turn =
  | { role: "system"; parts: TextPart[] }
  | { role: "user"; parts: InputPart[] }
  | { role: "assistant"; parts: OutputPart[] }
  | { role: "tool"; result: ToolResult };

/** Whether the prompt up to here is worth keeping, as Anthropic and Bedrock are told by markers. */
export type CacheHint = { ttl?: "5m" | "1h" };

export type TextPart = { type: "text"; text: string; cache?: CacheHint; citations?: Citation[] };
export type ImagePart = {
  type: "image";
  source: MediaSource;
  detail?: "auto" | "low" | "high";
  cache?: CacheHint;
};
/** A document: a PDF, a text, whatever the provider reads. */
export type FilePart = { type: "file"; source: MediaSource; name?: string; cache?: CacheHint };
export type AudioPart = { type: "audio"; format: string; base64: string };
export type InputPart = TextPart | ImagePart | FilePart | AudioPart;

export type MediaSource =
  | { type: "url"; url: string }
  /** `mediaType` as in `image/png`. */
  | { type: "base64"; mediaType: string; data: string }
  /** A file that was uploaded to the provider before, by its id there. */
  | { type: "file_id"; id: string };

export type OutputPart = TextPart | RefusalPart | ReasoningPart | ToolCallPart;
export type RefusalPart = { type: "refusal"; text: string };

/**
 * What a model thought. Providers sign it, and want it back unchanged with a tool's result; a signature means
 * something only to the provider that made it.
 */
export type ReasoningPart = {
  type: "reasoning";
  text: string;
  signature?: string;
  /** Thought that the provider shows to nobody, in its own encryption. */
  encrypted?: string;
  /** Of the item, where the provider gives it one. */
  id?: string;
};

export type ToolCallPart = {
  type: "tool_call";
  id: string;
  name: string;
  /** JSON text; `{}` for none. Of a custom tool, its input as it is. */
  arguments: string;
  /** Whether the tool takes free text instead of JSON. */
  custom?: boolean;
  /** Gemini's `thoughtSignature`, which has to come back with the call. */
  signature?: string;
  cache?: CacheHint;
};

export type ToolResult = {
  callId: string;
  /** The tool's name, where the dialect tells it; some providers want it back. */
  name?: string;
  parts: (TextPart | ImagePart | FilePart)[];
  isError?: boolean;
  cache?: CacheHint;
};

export type Tool =
  | FunctionTool
  /** Takes free text, bound by a grammar where one is given. */
  | { type: "custom"; name: string; description?: string; format?: unknown }
  /** A tool that the provider runs itself, such as a web search, in the words of a dialect. */
  | { type: "native"; dialect: string; tool: Readonly<Record<string, unknown>> };

export type FunctionTool = {
  type: "function";
  name: string;
  description?: string;
  /** JSON schema of an object; absent takes no arguments. */
  parameters?: Readonly<Record<string, unknown>>;
  strict?: boolean;
  cache?: CacheHint;
};

export type ToolChoice =
  | { type: "auto" }
  | { type: "none" }
  /** Some tool has to be called. */
  | { type: "required" }
  | { type: "tool"; name: string };

export type OutputFormat =
  | { type: "json" }
  | {
      type: "json_schema";
      name: string;
      description?: string;
      schema: Readonly<Record<string, unknown>>;
      strict?: boolean;
    };

export type Reasoning = {
  effort?: "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max";
  /** In place of an effort, where the dialect counts tokens. */
  tokensMax?: number;
  /** Whether the client wants to see what was thought. */
  visible?: boolean;
};

export type Citation = {
  url?: string;
  title?: string;
  /** What is quoted of the source. */
  quote?: string;
  /** Of the answer's text, in UTF-16 units; absent where the provider does not tell. */
  start?: number;
  end?: number;
  /** As the provider wrote it, for a client of the same dialect. */
  source?: unknown;
};
