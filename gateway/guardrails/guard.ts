/** One request under its project's guardrails, from its text to its answer's. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Guardrails } from "../../sdk/protocol/guardrails.ts";
import { AnswerFilter, type FilterStage } from "./answer-filter.ts";
import {
  type AskingGuard,
  type CompiledGuard,
  compileGuards,
  type FindingGuard,
  type WholeGuard,
} from "./compile.ts";
import type { Match } from "./detectors/detector.ts";
import { judgeLanguage } from "./detectors/language.ts";
import { matchesWhole } from "./detectors/patterns.ts";
import { mapStrings, stringsIn } from "./json-strings.ts";
import { Placeholders, placeholderDetector } from "./placeholders.ts";
import { type GuardReport, Reports } from "./report.ts";
import { replaceAll } from "./text-stage.ts";

/** Asks a webhook or a model. @returns whether it objects; @throws when it gives no verdict */
export type AskAbout = (guard: AskingGuard["guard"], texts: readonly string[]) => Promise<boolean>;

/** What is looked at of a request. */
export type GuardedRequest = {
  /** With the conversation that it continues. */
  body: unknown;
  /** The user's last turn. */
  user: () => string;
  /** Whether texts in it can be replaced; of a form they cannot. */
  isMutable: boolean;
  /** Whether the answer is to be JSON. */
  wantsJson: boolean;
};

/** What a model said, as one text. */
export type Said = {
  /** Thoughts and arguments of tools included. */
  readonly all: string;
  /** What it says to people. */
  readonly text: string;
};

export class Guard {
  /** Only hardware of one's own may answer. */
  ownOnly = false;
  /** Why the request goes nowhere. */
  refusal: HubError | undefined;
  readonly #guards: readonly CompiledGuard[];
  readonly #request: GuardedRequest;
  readonly #reports = new Reports();
  readonly #placeholders: Placeholders;
  readonly #ask: AskAbout;

  constructor(guardrails: Guardrails, request: GuardedRequest, ask: AskAbout) {
    this.#guards = compileGuards(guardrails);
    this.#request = request;
    this.#ask = ask;
    this.#placeholders = new Placeholders(stringsIn(request.body));
  }

  /** Looks at the request, guard by guard, each at what those before it left; ends with the first that blocks. */
  async checkRequest(): Promise<void> {
    let { body } = this.#request;
    for (const guard of this.#guards) {
      if (!guard.guard.on.includes("request")) continue;
      try {
        body = await this.#checkRequest(guard, body);
      } catch (error) {
        if (!(error instanceof HubError)) throw error;
        this.refusal = error;
        return;
      }
    }
  }

  async #checkRequest(guard: CompiledGuard, body: unknown): Promise<unknown> {
    switch (guard.does) {
      case "find":
        return this.#findIn(guard, body, "request");
      case "allow":
      case "language": {
        const text = this.#request.user();
        await this.#checkWhole(guard, { all: text, text }, "request");
        return body;
      }
      case "size": {
        const chars = stringsIn(body).reduce((sum, text) => sum + text.length, 0);
        if (chars > guard.guard.charsMax) this.#object(guard, "request");
        return body;
      }
      case "ask":
        await this.#askAbout(guard, stringsIn(body), "request");
        return body;
      default:
        return guard satisfies never;
    }
  }

  #findIn(guard: FindingGuard, body: unknown, on: "request" | "answer"): unknown {
    return mapStrings(body, (text) =>
      replaceAll(text, guard.detector, (found, match) => {
        this.#reports.hit(guard, on, match);
        return this.#actOn(guard, found, { ...match, on });
      }),
    );
  }

  /** @throws HubError where the guard blocks */
  #actOn(
    guard: FindingGuard,
    found: string,
    { kind, reads = found, on }: Pick<Match, "kind" | "reads"> & { on: "request" | "answer" },
  ): string {
    const { action, name, restore } = guard.guard;
    if (action === "block") throw blocked(name, on);
    if (action === "own") this.ownOnly = true;
    if (action !== "redact") return found;
    if (on === "answer") return `[${kind}]`;
    if (!this.#request.isMutable) throw blocked(name, on);
    return this.#placeholders.of(reads, kind, restore);
  }

  #object(guard: CompiledGuard, on: "request" | "answer", failure?: string): void {
    this.#reports.hit(guard, on, failure === undefined ? {} : { failure });
    const { action, name } = guard.guard;
    if (action === "block") throw blocked(name, on);
    if (action === "own") this.ownOnly = true;
  }

  async #askAbout(
    guard: AskingGuard,
    texts: readonly string[],
    on: "request" | "answer",
  ): Promise<void> {
    let objects: boolean;
    try {
      objects = await this.#ask(guard.guard, texts);
    } catch (error) {
      const failure = error instanceof HubError ? error.code : "no_verdict";
      this.#reports.hit(guard, on, { failure });
      if (guard.guard.onFailure === "pass") return;
      throw unavailable(guard.guard.name, error);
    }
    if (objects) this.#object(guard, on);
  }

  /** A request for a provider, in whatever format, with nothing in it that is to be taken out. */
  mask<T>(body: T): T {
    let masked = body;
    for (const guard of this.#guards) {
      if (guard.does !== "find" || guard.guard.action !== "redact") continue;
      const { detector, guard: settings } = guard;
      if (!settings.on.includes("request")) continue;
      masked = mapStrings(masked, (text) =>
        replaceAll(text, detector, (found, { kind, reads = found }) =>
          this.#placeholders.of(reads, kind, settings.restore),
        ),
      );
    }
    return masked;
  }

  /** Whether anything is to be done about an answer. */
  get watchesAnswer(): boolean {
    return this.#placeholders.hasTexts || this.#answerGuards().length > 0;
  }

  /** Looks at a whole answer. @throws HubError where it may not pass */
  async checkAnswer(whole: unknown, said: Said): Promise<unknown> {
    let answer = whole;
    const found: FindingGuard[] = [];
    const left: Said = {
      get all() {
        return found.reduce(withoutFound, said.all);
      },
      get text() {
        return found.reduce(withoutFound, said.text);
      },
    };
    for (const guard of this.#answerGuards()) {
      if (guard.does === "find") {
        answer = mapSaid(answer, (part) => this.#findIn(guard, part, "answer"));
        found.push(guard);
      } else await this.#checkWhole(guard, left, "answer");
    }
    const restored = this.#placeholders.hasTexts
      ? mapStrings(answer, (text, { json }) => this.#restore(text, json || this.#isJson(text)))
      : answer;
    return withoutLogprobs(restored);
  }

  /** For one stream. Its events are to be passed through in order, from the first to the last. */
  openFilter(): AnswerFilter {
    const guards = this.#answerGuards();
    return new AnswerFilter({
      stages: guards.flatMap((guard): FilterStage[] => {
        switch (guard.does) {
          case "find":
            return [
              {
                does: "find",
                detector: guard.detector,
                passes: guard.guard.action === "flag",
                onMatch: (found, match) => {
                  this.#reports.hit(guard, "answer", match);
                  return this.#actOn(guard, found, { ...match, on: "answer" });
                },
              },
            ];
          case "size":
            return [];
          case "allow":
          case "language":
          case "ask":
            return [{ does: "hear", onEnd: (said) => this.#checkWhole(guard, said, "answer") }];
          default:
            return guard satisfies never;
        }
      }),
      restore: this.#placeholders.hasTexts
        ? {
            detector: placeholderDetector,
            textOf: (made, json) => this.#restore(made, json),
            json: this.#request.wantsJson,
          }
        : undefined,
      charsMax: guards.flatMap((guard) =>
        guard.does === "size"
          ? [{ max: guard.guard.charsMax, exceeded: () => this.#object(guard, "answer") }]
          : [],
      ),
    });
  }

  async #checkWhole(
    guard: WholeGuard | AskingGuard,
    said: Said,
    on: "request" | "answer",
  ): Promise<void> {
    switch (guard.does) {
      case "allow":
        if (!matchesWhole(guard.patterns, said.all)) this.#object(guard, on);
        return;
      case "size":
        if (said.all.length > guard.guard.charsMax) this.#object(guard, on);
        return;
      case "language": {
        // Whoever says nothing says it in no language.
        if (said.text.trim() === "") return;
        const verdict = await judgeLanguage(said.text, guard.rule);
        const isUnknown = verdict === "unknown";
        if (isUnknown) this.#reports.unknown(guard, on);
        if (verdict === "other" || (isUnknown && guard.guard.unknown === "object")) {
          this.#object(guard, on);
        }
        return;
      }
      case "ask":
        return this.#askAbout(guard, [said.all], on);
      default:
        guard satisfies never;
    }
  }

  reports(): GuardReport[] {
    return this.#reports.all();
  }

  header(): string {
    return this.#reports.header();
  }

  #answerGuards(): CompiledGuard[] {
    return this.#guards.filter(({ guard }) => guard.on.includes("answer"));
  }

  #isJson(text: string): boolean {
    return this.#request.wantsJson && /^\s*[[{]/.test(text);
  }

  #restore(text: string, json: boolean): string {
    return replaceAll(text, placeholderDetector, (made) => {
      const original = this.#placeholders.textOf(made);
      if (original === undefined) return made;
      return json ? JSON.stringify(original).slice(1, -1) : original;
    });
  }
}

/** What the guards after this one look at. */
function withoutFound(text: string, { detector, guard: { action } }: FindingGuard): string {
  return action === "redact" ? replaceAll(text, detector, (_, { kind }) => `[${kind}]`) : text;
}

/** What a model said, without what an answer repeats of its request. */
function mapSaid(answer: unknown, map: (part: unknown) => unknown): unknown {
  if (typeof answer !== "object" || answer === null || Array.isArray(answer)) return map(answer);
  let changed: Record<string, unknown> | undefined;
  for (const [name, part] of Object.entries(answer)) {
    if (!saidMembers.has(name)) continue;
    const mapped = map({ [name]: part }) as Record<string, unknown>;
    if (mapped[name] === part) continue;
    changed ??= { ...answer };
    changed[name] = mapped[name];
  }
  return changed ?? answer;
}

const saidMembers = new Set([
  ...["choices", "content", "candidates", "output", "output_text"],
  ...["text", "segments", "words", "data", "message"],
]);

/** Tokens tell a text a second time. */
function withoutLogprobs(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutLogprobs);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, one]) => {
      if (name === "logprobs" && typeof one === "object")
        return [[name, Array.isArray(one) ? [] : null]];
      return name === "logprobsResult" ? [] : [[name, withoutLogprobs(one)]];
    }),
  );
}

function blocked(name: string, on: "request" | "answer"): HubError {
  return new HubError(
    "guardrail_blocked",
    on === "request"
      ? `This request was not sent: the guardrail '${name}' of its project found something in it that may not leave.`
      : `The answer ends here: the guardrail '${name}' of its project found something in it that may not pass.`,
    { details: { guardrail: name, on } },
  );
}

function unavailable(name: string, cause: unknown): HubError {
  return new HubError(
    "guardrail_unavailable",
    `The guardrail '${name}' of this project gave no verdict, and nothing passes without one. Try again in a moment.`,
    { cause, details: { guardrail: name } },
  );
}
