/** What drives one side of a cell: a client's SDK in front, or an emulated provider behind. */
import type { Ask, Heard, Raw, Refusal, Said, Seen } from "./neutral.ts";

/** Things that a dialect may have no words for. */
export type Feature =
  | "stop"
  | "logprobs"
  | "keepsPrompt"
  | "failedResult"
  | "imageUrl"
  | "pdf"
  | "textFile"
  | "unknown"
  | "refusal"
  | "choiceNone"
  | "freeText"
  /** Anything but one text. */
  | "conversation";

export type Dialect = {
  name: string;
  /** What its format has no words for, and so nobody can ask or hear in it. */
  lacks: ReadonlySet<Feature>;
  /** Its words for how an answer ended. */
  ends: {
    stop: string;
    length: string;
    stop_sequence: string;
    content_filter: string;
    calls: string;
  };
  /** Its statuses for an upstream that failed, and for one that is overloaded. */
  statuses: { failed: number; overloaded: number };
  /** Begins the ids of its answers, where they have any. */
  idPrefix?: string;
  connect(gateway: { url: string; apiKey: string }): Client;
};

export type Client = {
  ask(ask: Ask, how: { model: string; stream: boolean }): Promise<Heard>;
  /** What its SDK throws, of a class of its own. @throws AssertionError for anything else */
  refusal(thrown: unknown): Refusal;
  /** That the bytes are of the dialect, and nobody else's. @throws AssertionError */
  guard(raw: Raw, how: { stream: boolean }): void;
};

/** What goes wrong upstream, at a model's word. */
export type Fault = "split" | "400" | "401" | "429" | "500" | "overloaded" | "broken" | "cut";

export type Upstream = {
  name: string;
  /** A model behind it; its name tells the fault. */
  model(fault: Fault | undefined): string;
  /** What it answers from now on, in turn; the last again and again. */
  prepare(said: readonly Said[]): void;
  /** What it was asked last; `undefined` where that is not known, as inside an engine. */
  seen(): Seen | undefined;
  /** Whether what it says is decided by `prepare`. */
  scripted: boolean;
  /** Which counts it tells. */
  tells: { cacheRead: boolean; cacheWrite: boolean; reasoning: boolean; logprobs: boolean };
  /** Whether it takes its own thoughts back. */
  seals: boolean;
  /** Whether it has words for a refusal, for its filter, and for which stop string came. */
  refuses: boolean;
  filters: boolean;
  stopped: boolean;
  close(): Promise<void>;
};
