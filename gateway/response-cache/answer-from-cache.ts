/** A reserved call's way past the response cache: what is looked up, and how a kept answer is settled and given. */

import { taskHeader } from "../../sdk/protocol/http.ts";
import type { Making, ReservedCall } from "../answer-call.ts";
import { guardHeaders } from "../guardrails/guard-call.ts";
import { streamedAnswer, wholeAnswer } from "../http/answers.ts";
import { baseHeaders } from "../http/exchange.ts";
import { explainHeaders } from "../http/explain.ts";
import type { InFlight } from "../in-flight.ts";
import { recollectionOf } from "../responses/recollection.ts";
import type { CachedAnswer } from "./answer.ts";
import { type CacheAsked, cacheHeader } from "./asked.ts";
import { cacheKey, isRepeatable } from "./cache-key.ts";
import { replayAtPace } from "./replay.ts";
import type { ResponseCache } from "./response-cache.ts";

/** What is kept is what the plan's first choice said; an answer of a fallback's is given once. */
export async function answerFromCache(
  reserved: ReservedCall,
  {
    client,
    broke,
    wanted,
    ask,
  }: Making & { wanted: CacheAsked; ask: (making: Making) => Promise<Response> },
  {
    responseCache,
    inFlight,
    now,
  }: { responseCache: ResponseCache; inFlight: InFlight; now: () => number },
): Promise<Response> {
  const { request, exchange, principal, call, plan, reservation, settling } = reserved;
  const [target] = plan.targets;
  // What a connection remembers is its own: what was said on another one is no part of it.
  const isRemembered = recollectionOf(request) !== undefined;
  if (!target || call.guard?.refusal || isRemembered || !isRepeatable(call, wanted)) {
    return responseCache.bypassed(await ask({ client, broke }));
  }

  const replay = async (answer: CachedAnswer, ageSeconds: number): Promise<Response> => {
    const { cost } = await settling.replayed(target, answer);
    const { "content-type": contentType = "application/json", ...kept } = answer.headers;
    const { task, route } = plan.decision;
    const headers = {
      ...baseHeaders(exchange, now()),
      ...reservation.headers,
      ...kept,
      ...guardHeaders(call),
      ...(task !== undefined && { [taskHeader]: task }),
      ...(route !== undefined && { "x-switchyard-route": route }),
      ...explainHeaders(request, { decision: plan.decision, tried: [] }),
      [cacheHeader]: "hit",
      age: String(ageSeconds),
      "x-switchyard-replay-of": answer.requestId,
    };
    if (!call.stream) return wholeAnswer({ bytes: answer.body, contentType }, headers, cost);
    const isFast = wanted.pace === "fast" || !answer.pieces;
    const body = isFast
      ? (new Blob([answer.body as Uint8Array<ArrayBuffer>]).stream() as ReadableStream<Uint8Array>)
      : replayAtPace(answer, inFlight.open());
    return streamedAnswer(body, contentType, headers);
  };

  return responseCache.answer({
    projectId: principal.project.id,
    key: cacheKey(call, target, principal.project.guardrails),
    requestId: exchange.requestId,
    asked: wanted,
    stream: call.stream,
    client,
    make: (brokeOff) =>
      ask({
        client,
        broke() {
          brokeOff();
          broke();
        },
      }),
    used: () => settling.usedBy(target),
    replay,
  });
}
