/**
 * What is asked, said, heard and seen, in nobody's words. It is no form of the gateway's: clients' SDKs and emulated providers
 * are driven by it from both sides, so that what lies between them is tested by something else than itself.
 */

/** What a client asks. */
export type Ask = {
  system?: string;
  turns: Turn[];
  tools?: { name: string; description?: string; parameters?: Record<string, unknown> }[];
  /** One whose input is a text and no JSON. */
  freeTextTool?: { name: string; description: string };
  toolChoice?: "none" | "required" | { name: string };
  schema?: Record<string, unknown>;
  stop?: string[];
  outputTokensMax?: number;
  temperature?: number;
  /** Likeliest tokens to tell beside each. */
  logprobs?: number;
  reasoning?: true;
  /** Marks the instructions as worth keeping. */
  keepsPrompt?: true;
  /** A field that no dialect knows, as SDKs let one write it. */
  unknown?: true;
};

export type Turn =
  | { role: "user"; parts: Part[] }
  | { role: "assistant"; text: string }
  /** What a model said goes back as its client got it. */
  | { role: "heard"; heard: Heard }
  | { role: "results"; results: Result[] };

export type Part =
  | { type: "text"; text: string }
  /** PNG in base64. */
  | { type: "image"; data: string }
  | { type: "image_url"; url: string }
  | { type: "pdf"; data: string; name: string }
  | { type: "text_file"; text: string; name: string };

export type Result = {
  id: string;
  name: string;
  text: string;
  failed?: true;
  /** Of a tool of free text. */
  freeText?: true;
};

/** What an emulated model says. */
export type Said = {
  text?: string;
  /** Signed, where its provider signs. */
  reasoning?: string;
  calls?: {
    id: string;
    name: string;
    input: Record<string, unknown>;
    /** In its place, where tools of free text are known. */
    freeText?: string;
  }[];
  refusal?: string;
  /** A page on which the first characters of the text rest, until `end`. */
  cites?: { url: string; title: string; end: number };
  /** Of each word of the text. */
  logprobs?: number[];
  end?: "length" | "stop_sequence" | "content_filter";
  usage?: Usage;
};

/** Disjoint counts, as far as a provider tells them. */
export type Usage = {
  input: number;
  cacheRead?: number;
  cacheWrite?: number;
  output: number;
  reasoning?: number;
};

/** What a client's SDK makes of an answer. */
export type Heard = {
  id: string | undefined;
  text: string;
  reasoning: string;
  calls: { id: string; name: string; input: unknown }[];
  /** In the dialect's own words. */
  finish: string;
  refusal: string;
  cited: string[];
  logprobs: number[];
  usage: { input: number; cacheRead: number; output: number; reasoning: number | undefined };
  /** What is sent back of it in the next turn. */
  said: unknown;
};

/** What an upstream is asked, read from its own format. */
export type Seen = {
  system: string;
  /** Texts of neighbouring messages of one role, each with it: `user: Hello`. */
  said: string[];
  /** Data in base64, or URLs. */
  images: string[];
  files: string[];
  calls: { id: string; name: string; input: unknown }[];
  results: { id: string; text: string; failed: boolean }[];
  /** Signatures that came back. */
  seals: string[];
  tools: string[];
  choice: string | undefined;
  schema: unknown;
  stop: string[];
  outputTokensMax: number | undefined;
  temperature: number | undefined;
  logprobs: boolean;
  thinks: boolean;
  cacheMarks: number;
};

export const nothingSeen: Seen = {
  system: "",
  said: [],
  images: [],
  files: [],
  calls: [],
  results: [],
  seals: [],
  tools: [],
  choice: undefined,
  schema: undefined,
  stop: [],
  outputTokensMax: undefined,
  temperature: undefined,
  logprobs: false,
  thinks: false,
  cacheMarks: 0,
};

/** Adds a text to those of its role. */
export function say(said: string[], role: string, text: string): void {
  if (text === "") return;
  const last = said.length - 1;
  if (said[last]?.startsWith(`${role}: `)) said[last] += `\n${text}`;
  else said.push(`${role}: ${text}`);
}

/** What a client is told when it gets no answer. */
export type Refusal = { status: number | undefined; message: string };

/** What an answer was on the wire. */
export type Raw = { status: number; type: string; text: string; dropped: string };
