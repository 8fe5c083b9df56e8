/**
 * Runs responses that nobody waits for: through the one request path, with this process in the client's place. What is
 * said is written down as it comes, so that clients can poll, follow or cancel from any gateway on the same database.
 */
import { randomUUID } from "node:crypto";
import type { Logger } from "pino";
import { asHubError, HubError } from "../../sdk/protocol/errors.ts";
import { parseSseFrame, SseFramer } from "../../sdk/protocol/sse.ts";
import type { ReservedCall } from "../answer-call.ts";
import { headOf } from "../attempts/conversation.ts";
import type { GatewayLimits } from "../config.ts";
import type { BackgroundAnswer } from "../dialects/dialect.ts";
import { refusal, streamedAnswer } from "../http/answers.ts";
import { baseHeaders } from "../http/exchange.ts";
import type { InFlight } from "../in-flight.ts";
import { TenantPlaces } from "../tenant-places.ts";
import { EventLog } from "./event-log.ts";
import { follow, refuseUnstreamed } from "./follow.ts";
import type { ResponseObject, RunStore } from "./store.ts";

export type BackgroundRunsOptions = {
  store: RunStore;
  inFlight: InFlight;
  limits: GatewayLimits;
  logger: Logger;
  now: () => number;
};

/** Sends the request on, with somebody in the client's place. */
type Answer = (client: AbortSignal) => Promise<Response>;

type Run = {
  id: string;
  projectId: string;
  answer: BackgroundAnswer;
  /** The newest that is known of it. */
  response: ResponseObject;
  controller: AbortController;
  /** Why it was ended from our side: somebody cancelled or deleted it, it grew too large, or this process stops. */
  ended?: "lost" | "too_large" | "stopped";
  done: Promise<void>;
};

export class BackgroundRuns {
  readonly #options: BackgroundRunsOptions;
  /** Of this process, for as long as it lives. */
  readonly #owner = randomUUID();
  readonly #runs = new Map<string, Run>();
  /** Followers of this process that sleep until something is written. */
  #sleepers = new Set<() => void>();
  readonly #followers: TenantPlaces;
  #beat: NodeJS.Timeout | undefined;

  constructor(options: BackgroundRunsOptions) {
    this.#options = options;
    this.#followers = new TenantPlaces({
      max: options.limits.backgroundFollowersMax,
      perProjectMax: options.limits.backgroundFollowersPerProjectMax,
      what: "streams of background responses",
    });
  }

  /** Answers at once that the response is queued, or with its stream, and goes on by itself. */
  async start(reserved: ReservedCall, answer: Answer): Promise<Response> {
    const { store, inFlight, now } = this.#options;
    const { call, exchange, principal, reservation, settling } = reserved;
    const { requestId } = exchange;
    const projectId = principal.project.id;
    const headers = { ...baseHeaders(exchange, now()), ...reservation.headers };
    let background: BackgroundAnswer;
    let leave: (() => void) | undefined;
    try {
      if (call.stream) leave = this.#followers.take(projectId);
      const head = headOf(call, { ...exchange, nowMs: now });
      const begun = call.background?.(head);
      if (!begun) throw new Error("the call is not to run in the background");
      background = begun;
      const { kept } = background;
      await store.begin({ projectId, owner: this.#owner, streamed: call.stream, kept });
    } catch (thrown) {
      leave?.();
      const error = asHubError(thrown);
      await settling.failed({
        type: "failed",
        error,
        clientGone: false,
        sent: undefined,
        tried: [],
        unanswered: [],
      });
      return refusal(error, { dialect: call.dialect, requestId }, headers);
    }
    const { kept } = background;
    const ended = inFlight.open();
    const run: Run = {
      id: kept.id,
      projectId,
      answer: background,
      response: kept.response,
      controller: new AbortController(),
      done: Promise.resolve(),
    };
    this.#runs.set(run.id, run);
    this.#beatOn();
    run.done = this.#perform(run, answer, call.stream).finally(() => {
      this.#runs.delete(run.id);
      this.#wake();
      ended();
    });
    if (!leave) return Response.json(kept.response, { headers });
    const body = this.#follow({ projectId, id: run.id, leave }, -1);
    return streamedAnswer(body, call.dialect.streamType, headers);
  }

  /** @throws HubError `not_found` */
  async retrieve(projectId: string, id: string): Promise<ResponseObject> {
    return (await this.#options.store.look(projectId, id)).response;
  }

  /**
   * The events after one number.
   * @throws HubError `not_found`, `invalid_value` when the response was not made as a stream
   */
  async stream(projectId: string, id: string, after: number): Promise<ReadableStream<Uint8Array>> {
    refuseUnstreamed(await this.#options.store.look(projectId, id));
    return this.#follow({ projectId, id, leave: this.#followers.take(projectId) }, after);
  }

  /** @throws HubError `not_found`, `invalid_value` for one that its client waited for */
  async cancel(projectId: string, id: string): Promise<ResponseObject> {
    const response = await this.#options.store.cancel(projectId, id);
    const run = this.#runs.get(id);
    if (run) endRun(run, "lost");
    this.#wake();
    return response;
  }

  /** Ends what still runs, and says so. */
  async stop(): Promise<void> {
    const runs = [...this.#runs.values()];
    for (const run of runs) endRun(run, "stopped");
    await Promise.all(runs.map(({ done }) => done));
    clearInterval(this.#beat);
    this.#beat = undefined;
    this.#wake();
  }

  #follow(
    { projectId, id, leave }: { projectId: string; id: string; leave: () => void },
    after: number,
  ) {
    const { store, inFlight, limits, now } = this.#options;
    const ended = inFlight.open();
    return follow({
      look: () => store.look(projectId, id),
      eventsAfter: (from) => store.eventsAfter(id, from),
      wait: () => this.#sleep(limits.backgroundPollMs),
      after,
      now,
      keepAliveMs: limits.keepAliveMs,
      onEnd() {
        ended();
        leave();
      },
    });
  }

  async #perform(run: Run, answer: Answer, streamed: boolean): Promise<void> {
    const { store, limits, logger } = this.#options;
    const { id, controller } = run;
    const owned = { owner: this.#owner, id };
    const note = async (news: Parameters<RunStore["note"]>[1]) => {
      if (await store.note(owned, news)) this.#wake();
      else endRun(run, "lost");
    };
    const log = new EventLog({
      write: (events) => note({ events }),
      delayMs: limits.backgroundFlushMs,
      pendingBytesMax,
    });
    const send = (type: string, fields: object) => {
      if (streamed) log.add(type, fields);
    };
    try {
      send("response.created", { response: run.response });
      send("response.queued", { response: run.response });
      run.response = { ...run.response, status: "in_progress" };
      // Should the database be away just now, the response is told to be queued a little longer.
      await note({ response: run.response }).catch(() => {});
      const response = await answer(controller.signal);
      const isStream = response.headers.get("content-type")?.startsWith("text/event-stream");
      if (response.ok && isStream) await this.#relay(run, response, log);
      else await readWhole(run, response);
    } catch (error) {
      logger.error({ response: id, error: (error as Error)?.stack }, "a background run failed");
      fail(run, asHubError(error));
    }
    if (run.ended === "lost") {
      await log.close();
      return;
    }
    if (run.ended !== undefined) fail(run, endings[run.ended]());
    if (run.response.status === "failed" && isTold(run)) {
      const error = run.response.error as { code: string; message: string };
      send("error", {
        ...error,
        param: null,
        error: { ...error, type: "server_error", param: null },
      });
    }
    if (isFinal(run.response.status)) {
      send(`response.${run.response.status}`, { response: run.response });
    }
    await this.#finish(run, log);
  }

  /** Passes the events on to the log, under numbers of its own, because one more came before them. */
  async #relay(run: Run, response: Response, log: EventLog): Promise<void> {
    const { requestBytesMax, answerBytesMax, backgroundEventsBytesMax } = this.#options.limits;
    // Events repeat what was asked, and the last one all that was said.
    const framer = new SseFramer({ frameBytesMax: requestBytesMax + answerBytesMax });
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      for (const frame of framer.push(chunk)) {
        const event = parseEvent(frame);
        if (event) take(run, event, log);
      }
      if (log.bytes > backgroundEventsBytesMax) endRun(run, "too_large");
      if (log.isFull) await log.write();
    }
    if (!isFinal(run.response.status) && run.ended === undefined) {
      fail(run, new HubError("upstream_error", "The answer ended in the middle."));
    }
  }

  async #finish(run: Run, log: EventLog): Promise<void> {
    const { store, limits, logger } = this.#options;
    const { id, projectId, answer } = run;
    const { conversationId } = answer;
    const isSaid = run.response.status === "completed" || run.response.status === "incomplete";
    const turn =
      conversationId !== undefined && isSaid
        ? { conversationId, items: answer.said(run.response) }
        : undefined;
    const events = await log.close();
    for (let tries = 1; ; tries++) {
      try {
        await store.finish(
          { owner: this.#owner, id, projectId },
          { response: run.response, events, turn },
        );
        return;
      } catch (error) {
        if (run.ended === "stopped" || tries === finishTriesMax) {
          // Whoever asks finds it failed once its lease is over.
          logger.error({ response: id, error: String(error) }, "a background answer was lost");
          return;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, limits.backgroundPollMs));
    }
  }

  #beatOn(): void {
    this.#beat ??= setInterval(() => void this.#beatOnce(), this.#options.limits.backgroundPollMs);
    this.#beat.unref();
  }

  async #beatOnce(): Promise<void> {
    const asked = [...this.#runs.values()];
    if (asked.length === 0) {
      clearInterval(this.#beat);
      this.#beat = undefined;
      return;
    }
    try {
      const ids = asked.map(({ id }) => id);
      const own = await this.#options.store.beat(this.#owner, ids);
      for (const run of asked) if (!own.has(run.id)) endRun(run, "lost");
    } catch {
      // The database is away; leases are renewed when it is back, if nobody has taken them by then.
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#sleepers.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.#sleepers.add(wake);
    });
  }

  #wake(): void {
    for (const wake of this.#sleepers) wake();
  }
}

function endRun(run: Run, why: NonNullable<Run["ended"]>): void {
  if (run.ended !== undefined) return;
  run.ended = why;
  run.controller.abort();
}

type StreamEvent = { type: string; response?: ResponseObject } & Record<string, unknown>;

function parseEvent(frame: Uint8Array): StreamEvent | undefined {
  try {
    return JSON.parse(parseSseFrame(frame)?.data ?? "");
  } catch {
    return undefined;
  }
}

function take(run: Run, event: StreamEvent, log: EventLog): void {
  const { type, sequence_number: _number, ...fields } = event;
  switch (type) {
    // Told before anybody was asked.
    case "response.created":
    case "response.queued":
      return;
    case "response.completed":
    case "response.incomplete":
    case "response.failed":
      if (fields.response) run.response = fields.response;
      return;
    case "error": {
      // Told again with the end.
      const told = (fields.error ?? fields) as { code?: unknown; message?: unknown };
      run.response = toFailed(run.response, told);
      return;
    }
    default:
      log.add(type, fields);
  }
}

async function readWhole(run: Run, response: Response): Promise<void> {
  const body = (await response.json()) as ResponseObject & { error?: { message?: unknown } };
  run.response = response.ok ? body : toFailed(run.response, body.error ?? {});
}

function fail(run: Run, { code, message }: HubError): void {
  run.response = toFailed(run.response, { code, message });
}

/** The enumeration of a response's error codes is shorter than that of errors. */
function toFailed(
  response: ResponseObject,
  { code, message }: { code?: unknown; message?: unknown },
): ResponseObject {
  const known = code === "rate_limit_exceeded" ? code : "server_error";
  return { ...response, status: "failed", error: { code: known, message: String(message) } };
}

function isFinal(status: unknown): boolean {
  return status === "completed" || status === "incomplete" || status === "failed";
}

function isTold({ response }: Run): boolean {
  return typeof response.error === "object" && response.error !== null;
}

const endings = {
  lost: () => new HubError("request_cancelled", "The response was cancelled."),
  too_large: () =>
    new HubError("upstream_error", "The answer's events are larger than this gateway keeps."),
  stopped: () => new HubError("shutting_down", "The gateway was stopped before the answer ended."),
};

/** About five minutes of a database that is away, at a second each. */
const finishTriesMax = 300;
const pendingBytesMax = 1 << 20;
