/**
 * One realtime session: events pass both ways as they come, and each response is reserved before it may begin, settled
 * before its client sees that it is done, and a line of the ledger of its own.
 */

import type { Logger } from "pino";
import type { RawData, WebSocket } from "ws";
import { asHubError, HubError } from "../../sdk/protocol/errors.ts";
import type { RelayEnd } from "../attempts/relay.ts";
import type { GatewayLimits } from "../config.ts";
import { closeCodeOf, keepAlive, notText, send, textOf } from "../http/websocket.ts";
import { readMediaUsage } from "../providers/openai/media-usage.ts";
import type { Timeouts } from "../providers/settings.ts";
import type { Target } from "../routing/resolve.ts";
import type { Settling } from "../settling/settle.ts";
import { msPerTokenHeard, msPerTokenSpoken, type Seen } from "./call.ts";
import {
  type ClientEvent,
  errorEvent,
  parseClientEvent,
  parseServerEvent,
  type ServerEvent,
} from "./events.ts";
import type { Held, Holds } from "./holds.ts";
import { nameTranscriber, setModels } from "./models.ts";

/** A model of the session: the one that answers, or the one that transcribes. */
export type Metered = {
  target: Target;
  holds: Holds;
  begin(held: Held, startedAtMs: number): Settling;
};

export type SessionParts = {
  client: WebSocket;
  upstream: WebSocket;
  /** For the upstream to begin what it was asked for, and to go on with what it began. */
  timeouts: Pick<Timeouts, "firstByteMs" | "idleMs">;
  answers: Metered;
  /** Another model, which the client wants its own words transcribed by. @throws HubError where there is none such */
  openTranscriber(name: string): Metered;
  /** What was seen since the last answer, which estimates are made of. */
  seen: Seen;
  requestedModel: string;
  /** Whether the client may still do what it was let in for. @throws HubError */
  authorize: () => unknown;
  limits: GatewayLimits;
  logger: Logger;
  now: () => number;
};

type Response = { settling: Settling; text: string };

export class Session {
  readonly #parts: SessionParts;
  readonly #responses = new Map<string, Response>();
  /** Responses that the client asked for and that have not begun. */
  #wanted = 0;
  #transcriber: Metered | undefined;
  /** Why no further response may begin. */
  #refused: HubError | undefined;
  /** Ends a session in which the upstream owes something and says nothing. */
  #silence: NodeJS.Timeout | undefined;
  /** Its end, once it has begun: both sides are being closed, and what is open is settled. */
  #ending: Promise<void> | undefined;
  readonly #timers: NodeJS.Timeout[] = [];

  constructor(parts: SessionParts) {
    this.#parts = parts;
  }

  /** Resolves when both sides are closed and everything is settled. */
  run(): Promise<void> {
    const { client, upstream, limits } = this.#parts;
    return new Promise((resolve) => {
      const end = (how: RelayEnd, code: number) => void this.#end(how, code).finally(resolve);
      const gone: RelayEnd = { type: "client_gone" };
      const lost: RelayEnd = { type: "upstream_failed", error: cutOff() };
      this.#pump(client, (text) => this.#fromClient(text));
      this.#pump(upstream, (text) => this.#fromUpstream(text));
      client.on("close", () => end(gone, 1000));
      client.on("error", () => end(gone, 1000));
      // A session that the upstream let last long enough is closed here as it was there.
      upstream.on("close", (code) => end(lost, code === 1000 || code === 1001 ? code : 1011));
      upstream.on("error", () => end(lost, 1011));
      const tooLong = () => this.close(lastedLongEnough());
      this.#timers.push(
        setTimeout(tooLong, limits.realtimeSessionMs),
        setInterval(() => void this.#renew(), Math.ceil(limits.realtimeHoldMs / 2)),
        setInterval(() => this.#lookAgain(), limits.keepAliveMs),
        ...[client, upstream].map((socket) => keepAlive(socket, limits.keepAliveMs)),
      );
      // One of them may have closed before anybody listened.
      if (client.readyState > client.OPEN) end(gone, 1000);
      else if (upstream.readyState > upstream.OPEN) end(lost, 1011);
    });
  }

  /** Ends the session from our side, with a reason that the client is told. */
  close(error: HubError): void {
    this.#leave(error);
    void this.#end({ type: "client_gone" }, 1000);
  }

  /** Ends it because the upstream is too slow. */
  closeLate(what: string): void {
    const error = new HubError("upstream_timeout", `The upstream timed out: ${what}.`);
    this.#leave(error);
    void this.#end({ type: "upstream_failed", error }, 1000);
  }

  #leave(error: HubError): void {
    void this.#tell(error, undefined);
    this.#parts.client.close(closeCodeOf(error), error.code);
  }

  /** One event after another, and none is read before the one before it has been taken. */
  #pump(socket: WebSocket, take: (text: string) => Promise<void>): void {
    let tail: Promise<void> = Promise.resolve();
    let waiting = 0;
    socket.on("message", (data: RawData, isBinary: boolean) => {
      if (waiting++ === 0) socket.pause();
      tail = tail
        .then(() => (isBinary ? this.#tell(notText(), undefined) : take(textOf(data))))
        .catch((thrown) => this.close(asHubError(thrown)))
        .finally(() => {
          // Also one that is closing: it still has to read that the other side closes.
          if (--waiting === 0) socket.resume();
        });
    });
  }

  async #fromClient(text: string): Promise<void> {
    if (this.#ending) return;
    let event: ClientEvent | undefined;
    try {
      this.#authorize();
      event = parseClientEvent(text);
      this.#noteHeard(event, text.length);
      await this.#admit(event);
    } catch (thrown) {
      if (this.#refused) return this.#closeWhenIdle();
      await this.#tell(thrown, event?.event_id);
      return;
    }
    // Written anew: what was checked is what goes out, whatever stood in it twice.
    await send(this.#parts.upstream, JSON.stringify(event));
    if (this.#silence === undefined) this.#expectMore();
  }

  /** @throws HubError for what may not pass */
  async #admit(event: ClientEvent): Promise<void> {
    const { answers, requestedModel } = this.#parts;
    if (event.type === "response.create") {
      if (this.#refused) throw this.#refused;
      const { realtimeResponsesMax } = this.#parts.limits;
      if (this.#wanted + this.#responses.size >= realtimeResponsesMax) {
        throw new HubError(
          "rate_limit_exceeded",
          `This session has ${realtimeResponsesMax} responses under way or asked for, which is the most it may have.`,
        );
      }
      await this.#ensure(this.#wanted + 1);
      this.#wanted++;
    }
    const name = nameTranscriber(event);
    if (name !== undefined) {
      const transcriber = this.#parts.openTranscriber(name);
      if (transcriber.target.model.upstream !== answers.target.model.upstream) {
        throw new HubError(
          "unsupported_model",
          `'${name}' is not served where this session's model is, and so cannot transcribe for it.`,
          { param: "session.audio.input.transcription.model" },
        );
      }
      await transcriber.holds.ensure(1);
      await this.#transcriber?.holds.end();
      this.#transcriber = transcriber;
      // The session may have ended meanwhile, and gave back what it knew of then.
      if (this.#ending) await transcriber.holds.end();
    }
    setModels(event, {
      requested: requestedModel,
      own: answers.target.model.upstreamModel,
      transcriber: this.#transcriber?.target.model.upstreamModel,
    });
  }

  async #fromUpstream(text: string): Promise<void> {
    if (this.#ending) return;
    const event = parseServerEvent(text);
    // Limits of our own account there are nothing that a client could go by.
    if (event?.type === "rate_limits.updated") return;
    if (event) await this.#note(event);
    this.#expectMore();
    await send(this.#parts.client, text);
    if (this.#refused) this.#closeWhenIdle();
  }

  async #note(event: ServerEvent): Promise<void> {
    const { response, response_id, delta } = event;
    switch (event.type) {
      case "response.created":
        return this.#begin(response?.id ?? "");
      case "response.done":
        return this.#done(response?.id ?? "", response ?? {});
      case "conversation.item.input_audio_transcription.completed":
        return this.#transcribed(event);
      case "error":
        // What was asked for may not begin, and what was held for it is held no longer.
        this.#wanted = Math.max(0, this.#wanted - 1);
        return this.#parts.answers.holds.keep(this.#wanted + 1);
      default:
        this.#noteSaid(event.type, response_id ?? "", delta ?? "");
    }
  }

  async #begin(id: string): Promise<void> {
    const { answers, logger, now } = this.#parts;
    const startedAtMs = now();
    // One that is under way already is not begun again, and is settled once.
    if (this.#responses.has(id)) return;
    this.#wanted = Math.max(0, this.#wanted - 1);
    if (!answers.holds.isHeld) await this.#ensure(1).catch(() => {});
    const held = answers.holds.take();
    if (!held) {
      // It began in the moment in which nothing could be reserved any more: it is stopped at once.
      logger.error(
        { response: id.slice(0, 100) },
        "a realtime response began without a reservation",
      );
      await this.#stop(id);
      return;
    }
    this.#responses.set(id, { settling: answers.begin(held, startedAtMs), text: "" });
    try {
      this.#authorize();
    } catch {
      // The provider began by itself after the client's right had ended: it is stopped, and settled by what it tells.
      return this.#stop(id);
    }
    await this.#ensure(this.#wanted + 1).catch(() => {});
  }

  /** From now on the upstream has so long for its next event, if it owes one: who only listens may be silent. */
  #expectMore(): void {
    const { upstream, timeouts } = this.#parts;
    clearTimeout(this.#silence);
    this.#silence = undefined;
    if (this.#ending) return;
    const isUnderWay = this.#responses.size > 0;
    if (!isUnderWay && this.#wanted === 0) return;
    const ms = isUnderWay ? timeouts.idleMs : timeouts.firstByteMs;
    this.#silence = setTimeout(() => {
      // What we do not read cannot arrive.
      if (upstream.isPaused) this.#expectMore();
      else this.closeLate(`${isUnderWay ? "the next event" : "a response"} took over ${ms} ms`);
    }, ms);
  }

  #stop(id: string): Promise<void> {
    return send(this.#parts.upstream, JSON.stringify({ type: "response.cancel", response_id: id }));
  }

  /** @throws HubError once and for all: nothing further begins */
  #authorize(): void {
    try {
      this.#parts.authorize();
    } catch (thrown) {
      this.#refused = asHubError(thrown);
      throw thrown;
    }
  }

  /** For those who only listen. */
  #lookAgain(): void {
    try {
      this.#authorize();
    } catch {
      this.#closeWhenIdle();
    }
  }

  /** For one response more; that there is no room for it is remembered until one is done. */
  async #ensure(count: number): Promise<void> {
    try {
      await this.#parts.answers.holds.ensure(count);
      this.#refused = undefined;
    } catch (thrown) {
      this.#refused = asHubError(thrown);
      throw thrown;
    }
  }

  async #done(
    id: string,
    { status, usage }: { status?: string | null | undefined; usage?: unknown },
  ) {
    const response = this.#responses.get(id);
    if (!response) return;
    this.#responses.delete(id);
    const told = readResponseUsage(usage);
    const failed = status === "failed" && !told;
    await response.settling.relayed(
      this.#settled(this.#parts.answers, response, told),
      failed ? { type: "upstream_failed", error: cutOff() } : { type: "done" },
    );
    this.#forget();
    await this.#ensure(this.#wanted + 1).catch(() => {});
  }

  async #transcribed({ usage, transcript }: ServerEvent): Promise<void> {
    const { answers, now } = this.#parts;
    const by = this.#transcriber ?? answers;
    const held = by.holds.take();
    if (!held) return;
    const settling = by.begin(held, now());
    const told = readMediaUsage(usage, { input: "audio", output: "text" });
    const said = { text: transcript ?? "" };
    await settling.relayed(this.#settled(by, said, told), { type: "done" });
    await by.holds.ensure(1).catch((thrown) => {
      this.#refused = asHubError(thrown);
    });
  }

  #settled(
    { target }: Metered,
    { text }: { text: string },
    usage: ReturnType<typeof readMediaUsage>,
  ) {
    return { target, adapterDigest: undefined, stream: { reader: { usage, relayed: text } } };
  }

  #noteHeard({ type, audio }: ClientEvent, chars: number): void {
    const { seen } = this.#parts;
    // As if it were 16-bit PCM at 24 kHz, which is what sessions hear unless they are told otherwise.
    if (type === "input_audio_buffer.append" && typeof audio === "string") {
      seen.heard += tokensOf(audio, msPerTokenHeard);
    } else seen.written += Math.ceil(chars / 4);
  }

  #noteSaid(type: string, id: string, delta: string): void {
    const { seen, limits } = this.#parts;
    const response = this.#responses.get(id);
    if (!response || delta === "") return;
    if (/^response\.(?:output_)?audio\.delta$/.test(type)) {
      seen.spoken += tokensOf(delta, msPerTokenSpoken);
    } else if (/\.delta$/.test(type) && response.text.length < limits.relayedTextCharsMax) {
      response.text += delta;
      seen.said += Math.ceil(delta.length / 4);
    }
  }

  #forget(): void {
    Object.assign(this.#parts.seen, { written: 0, heard: 0, said: 0, spoken: 0 });
  }

  async #renew(): Promise<void> {
    const all = [this.#parts.answers, this.#transcriber];
    try {
      for (const metered of all) await metered?.holds.renew(this.#parts.limits.realtimeHoldMs);
    } catch (thrown) {
      this.#refused = asHubError(thrown);
      this.#closeWhenIdle();
    }
  }

  /** What is under way may end; then the client is told why nothing more begins. */
  #closeWhenIdle(): void {
    if (this.#refused && this.#responses.size === 0) this.close(this.#refused);
  }

  /** Resolves when the client's socket has taken it: who does not read is not asked for more mistakes. */
  #tell(error: unknown, eventId: unknown): Promise<void> {
    return send(this.#parts.client, errorEvent(error, eventId));
  }

  /** Also for those who come later it resolves when everything is settled. */
  #end(how: RelayEnd, code: number): Promise<void> {
    this.#ending ??= this.#letGo(how, code);
    return this.#ending;
  }

  async #letGo(how: RelayEnd, code: number): Promise<void> {
    for (const timer of [...this.#timers, this.#silence]) clearTimeout(timer);
    const { client, upstream, answers } = this.#parts;
    if (how.type === "upstream_failed" && code === 1011) void this.#tell(how.error, undefined);
    for (const socket of [client, upstream]) {
      if (socket.readyState <= socket.OPEN) socket.close(code);
      setTimeout(() => socket.terminate(), closeMs).unref();
    }
    const open = [...this.#responses.values()];
    this.#responses.clear();
    await Promise.all(
      open.map((response) =>
        response.settling.relayed(this.#settled(answers, response, undefined), how),
      ),
    );
    await answers.holds.end();
    await this.#transcriber?.holds.end();
  }
}

/** A response that was cancelled before it began tells zeros, which are told and not missing. */
function readResponseUsage(usage: unknown): ReturnType<typeof readMediaUsage> {
  const told = readMediaUsage(usage, { input: "audio", output: "audio" });
  if (told || typeof usage !== "object" || usage === null) return told;
  const { total_tokens } = usage as { total_tokens?: unknown };
  return total_tokens === 0 ? { usage: { input: 0, output: 0 }, inconsistent: false } : undefined;
}

function tokensOf(base64: string, msPerToken: number): number {
  const ms = ((base64.length * 3) / 4 / pcmBytesPerSecond) * 1000;
  return Math.ceil(ms / msPerToken);
}

/** As OpenAI tells it, which clients that open another session by themselves look for. */
function lastedLongEnough(): HubError {
  return new HubError(
    "session_expired",
    "The session has lasted as long as it may. Open another one to continue.",
  );
}

function cutOff(): HubError {
  return new HubError("upstream_error", "The upstream closed the session.");
}

const pcmBytesPerSecond = 48_000;
const closeMs = 2_000;
