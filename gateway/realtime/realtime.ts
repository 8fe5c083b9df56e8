/** `GET /v1/realtime` as a WebSocket: who asks, for which model, what it may cost, and then the session. */
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket, WebSocketServer } from "ws";
import { asHubError, HubError, invariant } from "../../sdk/protocol/errors.ts";
import { tagsHeader, taskHeader } from "../../sdk/protocol/http.ts";
import type { Meter } from "../../sdk/protocol/usage.ts";
import { planCall } from "../answer-call.ts";
import type { AppParts } from "../app.ts";
import type { Deployment } from "../attempts/deployment.ts";
import type { GatewayLimits } from "../config.ts";
import type { Call } from "../dialects/dialect.ts";
import { cannotPass } from "../dialects/openai-passing/request.ts";
import { clientAddressOf } from "../http/client-address.ts";
import { credentialOf } from "../http/credential.ts";
import { writeRefusal } from "../http/server.ts";
import { readTags } from "../http/tags.ts";
import { lateMessage, requestOfUpgrade } from "../http/websocket.ts";
import { limitMessages } from "../http/websocket-messages.ts";
import { endUserOf } from "../identity/end-user.ts";
import { priceOf } from "../ledger/price-book.ts";
import type { Provider } from "../providers/provider.ts";
import type { Timeouts } from "../providers/settings.ts";
import type { Plan } from "../routing/plan.ts";
import { scopeOf, type Target, toPricedModel } from "../routing/resolve.ts";
import { reserve } from "../settling/reserve.ts";
import { Settling } from "../settling/settle.ts";
import { TenantPlaces } from "../tenant-places.ts";
import { responseCall, type Seen, transcriptionCall } from "./call.ts";
import { Holds } from "./holds.ts";
import { type Metered, Session } from "./session.ts";

export type Realtime = {
  /** Takes over a connection that asks to become a WebSocket. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Ends all sessions, telling their clients why. */
  close(): Promise<void>;
};

export function createRealtime(parts: AppParts): Realtime {
  const { limits, logger } = parts;
  const server = new WebSocketServer({
    noServer: true,
    maxPayload: limits.realtimeEventBytesMax,
    handleProtocols: (offered) => (offered.has("realtime") ? "realtime" : false),
  });
  const sessions = new Map<Session, Promise<void>>();
  const places = new TenantPlaces({
    max: limits.realtimeSessionsMax,
    perProjectMax: limits.realtimeSessionsPerProjectMax,
    what: "realtime sessions",
  });

  async function open(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const gone = new AbortController();
    const leave = () => gone.abort();
    socket.once("close", leave);
    socket.on("error", leave);
    const request = requestOfUpgrade(incoming);
    const credential = credentialOf(request);
    const from = {
      method: "GET",
      path: new URL(request.url).pathname,
      address: clientAddressOf(incoming),
    };
    /** What a session needs when it opens it needs as long as it lasts. */
    const authorize = () => {
      parts.identity.refuseOutside(credential, from);
      const principal = parts.identity.identifyProject(credential);
      if (principal.project.guardrails?.length) throw unguarded();
      return principal;
    };
    const leavePlace = places.take(authorize().project.id);
    let isTaken = false;
    try {
      await openSession();
    } finally {
      if (!isTaken) leavePlace();
    }

    async function openSession(): Promise<void> {
      const opened = await prepare(request, gone.signal, parts);
      const { answers, socket: upstream, connection } = opened;
      try {
        server.handleUpgrade(incoming, socket, head, (client) => {
          isTaken = true;
          const session = new Session({
            ...{ ...opened, client, upstream, authorize, limits, logger },
            now: parts.now,
          });
          const timeoutMs = limits.socketMessageTimeoutMs;
          limitMessages(client, socket, {
            timeoutMs,
            late: () => session.close(lateMessage(timeoutMs)),
          });
          limitMessages(upstream, connection, {
            timeoutMs,
            late: () => session.closeLate(`the rest of an event took over ${timeoutMs} ms`),
          });
          const ended = parts.inFlight.open();
          sessions.set(
            session,
            session.run().finally(() => {
              sessions.delete(session);
              leavePlace();
              ended();
            }),
          );
          upstream.resume();
        });
      } finally {
        // A handshake that is none is refused by whoever takes it over, and a client that has left is told nothing.
        if (!isTaken) {
          upstream.terminate();
          await answers.holds.end();
        }
      }
    }
  }

  return {
    upgrade(incoming, socket, head) {
      parts.inFlight
        .admit(() => open(incoming, socket, head))
        .catch((thrown) => {
          const error = asHubError(thrown);
          const tooMany = parts.wrongKeys.hold(error, clientAddressOf(incoming));
          if (tooMany) parts.metrics.wrongKeysHeld.inc();
          else {
            const level = error.status >= 500 ? "warn" : "info";
            logger[level]({ code: error.code, error: error.unquoted }, "no realtime session");
            parts.metrics.requests.add(1, "", "refused", String(error.status), error.code);
          }
          if (socket.writable) void writeRefusal(socket, tooMany ?? error);
          else socket.destroy();
        });
    },
    async close() {
      const error = new HubError(
        "shutting_down",
        "This gateway is shutting down. Try again in a moment.",
      );
      // Who asks from now on is refused.
      server.close();
      for (const session of sessions.keys()) session.close(error);
      await Promise.all(sessions.values());
    },
  };
}

/** What is spoken cannot be looked at before it is heard. */
function unguarded(): HubError {
  return new HubError(
    "permission_denied",
    "This project has guardrails, and no guardrail looks into a realtime session.",
  );
}

/** Everything that a session needs: as a request's way, from the key to the model that answers. */
async function prepare(request: Request, client: AbortSignal, parts: AppParts) {
  const url = new URL(request.url);
  if (url.pathname !== "/v1/realtime") {
    throw new HubError("unknown_url", `Unknown WebSocket URL: ${url.pathname.slice(0, 200)}.`);
  }
  const { limits, now } = parts;
  // identify
  const credential = credentialOf(request);
  const principal = parts.identity.identifyProject(credential);
  const scope = scopeOf(principal, parts.snapshot());
  // parse
  const model = url.searchParams.get("model");
  if (!model || model.length > 512) {
    throw new HubError(
      "missing_required_parameter",
      "Open a session with a model, as in '/v1/realtime?model=…'. Calls and sessions that only transcribe are not passed on.",
      { param: "model" },
    );
  }
  const tags = readTags(request.headers.get(tagsHeader));
  const endUser = endUserOf(request, { body: {} });
  const seen: Seen = { written: 0, heard: 0, said: 0, spoken: 0 };
  // resolve, plan
  const call = responseCall(model, limits, () => seen);
  const plan = planCall(call, request.headers.get(taskHeader), scope, parts);
  const prices = scope.snapshot.price.bind(scope.snapshot);
  const isPriced = (target: Target, meter: Meter) =>
    priceOf(toPricedModel(target), meter, prices, now()) !== undefined;

  const meter = (asked: Call, by: Plan, target: Target): Metered => ({
    target,
    holds: new Holds({
      now,
      waitMsMax: limits.realtimeWaitMs,
      wait: (ms) => sleep(ms, undefined, { signal: client }),
      // A key that was revoked opens nothing more, however old the session is.
      reserve: async (requestId) =>
        reserve(parts.accounts, {
          requestId,
          principal: parts.identity.identifyProject(credential),
          call: asked,
          endUser,
          targets: [target],
          limits,
        }),
    }),
    begin: ({ requestId, reservation }, startedAtMs) =>
      new Settling(
        {
          exchange: { requestId, startedAtMs },
          ...{ principal, call: asked, plan: by, tags, endUser, reservation, isPriced },
          defaultModel: undefined,
        },
        { ...parts, imageTokens: limits.imageTokens },
      ),
  });
  // reserve, attempt
  let refusal: HubError | undefined;
  for (const target of plan.targets) {
    const answers = meter(call, plan, target);
    try {
      await answers.holds.ensure(1);
      const opened = await connect(target, client, parts);
      const openTranscriber = (name: string) => {
        const asked = transcriptionCall(name, limits, () => seen);
        const by = planCall(asked, null, { ...scope, snapshot: parts.snapshot() }, parts);
        const [first] = by.targets;
        invariant(first, "a plan has at least one target");
        return meter(asked, by, first);
      };
      return { ...opened, answers, openTranscriber, seen, requestedModel: model };
    } catch (thrown) {
      await answers.holds.end();
      refusal = asHubError(thrown);
      if (client.aborted || !mayGoOn(refusal)) break;
    }
  }
  invariant(refusal, "a plan has at least one target");
  throw refusal;
}

/** A session at an upstream, paused until somebody reads it. */
type OpenedUpstream = {
  socket: WebSocket;
  /** What the socket reads from. */
  connection: Duplex;
  timeouts: Timeouts;
};

/** Asks one deployment after another. */
async function connect(
  target: Target,
  client: AbortSignal,
  parts: AppParts,
): Promise<OpenedUpstream> {
  const upstream = parts.upstreams.get(target.model.upstream);
  if (!upstream?.provider.realtime) throw cannotPass("openai-realtime");
  const model = target.model.upstreamModel;
  const except = new Set<Deployment>();
  let refusal: HubError | undefined;
  for (;;) {
    const deployment = upstream.choose({ model, stickyKey: undefined, except });
    const turn = deployment?.enter(model);
    if (!deployment || !turn) {
      const message = `The upstream '${upstream.name}' is failing and is not being called for a moment.`;
      const retryAfterMs = upstream.retryAfterMs();
      throw refusal ?? new HubError("upstream_unavailable", message, { retryAfterMs });
    }
    try {
      const opened = await openSocket(deployment.provider, target, {
        client,
        limits: parts.limits,
      });
      turn.succeed();
      return opened;
    } catch (thrown) {
      refusal = asHubError(thrown);
      if (client.aborted) turn.abandon();
      else turn.fail(refusal, true);
      if (client.aborted || !mayGoOn(refusal)) throw refusal;
      except.add(deployment);
    }
  }
}

function openSocket(
  provider: Provider,
  target: Target,
  { client, limits }: { client: AbortSignal; limits: GatewayLimits },
): Promise<OpenedUpstream> {
  const address = provider.realtime?.(target);
  if (!address) throw cannotPass("openai-realtime");
  const { timeouts } = provider;
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(address.url, {
      headers: address.headers,
      handshakeTimeout: timeouts.firstByteMs,
      maxPayload: limits.realtimeEventBytesMax,
      perMessageDeflate: false,
      followRedirects: false,
    });
    const refuse = (error: HubError) => {
      client.removeEventListener("abort", leave);
      reject(error);
      socket
        .removeAllListeners("error")
        .on("error", () => {})
        .terminate();
    };
    const leave = () => refuse(new HubError("request_cancelled", "The client closed the request."));
    client.addEventListener("abort", leave, { once: true });
    let connection: Duplex | undefined;
    socket.once("upgrade", (response) => {
      connection = response.socket;
    });
    socket.once("open", () => {
      client.removeEventListener("abort", leave);
      socket.pause();
      socket.removeAllListeners("error");
      invariant(connection, "what is open was upgraded before");
      resolve({ socket, connection, timeouts });
    });
    socket.once("unexpected-response", (_, response) => {
      const { statusCode: status = 502, headers } = response;
      const header = (wanted: string) => headers[wanted]?.toString();
      response.resume();
      refuse(provider.readError({ ...unread, status, header }, new Uint8Array()));
    });
    socket.once("error", (cause) => {
      const message = `The upstream '${provider.name}' opened no session.`;
      refuse(new HubError("upstream_error", message, { cause }));
    });
    if (client.aborted) leave();
  });
}

/** Of a refusal there is nothing to be read but its head. */
const unread = { read: async () => undefined, cancel: () => {} };

function mayGoOn({ code, status }: HubError): boolean {
  return status >= 500 || code === "unsupported_model";
}
