/** Does one thing to the server and reads what comes of it, to its very end. */
import { abortableRequest } from "../../sdk/protocol/http.ts";
import { SseParser } from "../../sdk/protocol/sse.ts";
import { operatorKey, type TestServer } from "../support/adapter-server.ts";
import type { Action } from "./random-requests.ts";

/** `problem` says what must not happen. */
export type Performed = { outcome: string; problem?: string };

export function perform(server: TestServer, action: Action): Promise<Performed> {
  switch (action.type) {
    case "ask":
      return ask(server, action);
    case "load":
      return load(server, action);
    case "unload":
      return unload(server, action.name);
    case "look":
      return look(server, action.path);
  }
}

type Ask = Extract<Action, { type: "ask" }>;

async function ask(server: TestServer, action: Ask): Promise<Performed> {
  const client = new AbortController();
  const { leave } = action;
  const left =
    leave && "afterMs" in leave ? setTimeout(() => client.abort(), leave.afterMs) : undefined;
  try {
    const response = await send(server, "/v1/chat/completions", action.body, client.signal);
    if (response.status !== 200) return refused(response, client.signal);
    return action.stream
      ? await readStream(response, action, client.signal)
      : await readWhole(response, action.choices);
  } catch (error) {
    if (client.signal.aborted) return { outcome: "left" };
    return { outcome: "failed", problem: String(error) };
  } finally {
    clearTimeout(left);
  }
}

/** What a client may meet here: wrong requests, unknown models, full queues, and itself having left. */
const expectedStatuses = new Set([400, 404, 429, 499, 503]);

async function refused(response: Response, signal: AbortSignal): Promise<Performed> {
  const { status } = response;
  const { error } = (await response.json()) as { error: { code: string; message: string } };
  if (signal.aborted) return { outcome: "left" };
  const outcome = `${status} ${error.code}`;
  if (expectedStatuses.has(status)) return { outcome };
  return { outcome, problem: `${outcome}: ${error.message}` };
}

async function readWhole(response: Response, choices: number): Promise<Performed> {
  const answer = (await response.json()) as { choices: { finish_reason: string | null }[] };
  const ended = answer.choices.filter(({ finish_reason }) => finish_reason !== null).length;
  if (ended === choices && answer.choices.length === choices) return { outcome: "answered" };
  return { outcome: "answered", problem: `${ended} of ${choices} choices have ended` };
}

async function readStream(
  response: Response,
  action: Ask,
  signal: AbortSignal,
): Promise<Performed> {
  const parser = new SseParser();
  const ends = new StreamEnds();
  let chunks = 0;
  const reader = response.body?.getReader();
  for (;;) {
    const read = await reader?.read();
    if (!read || read.done) break;
    for (const { data } of parser.push(read.value)) ends.see(data);
    const { leave } = action;
    if (leave && "afterChunks" in leave && ++chunks >= leave.afterChunks) {
      await reader?.cancel();
      return { outcome: "left in the middle" };
    }
    if (action.pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, action.pauseMs));
  }
  if (signal.aborted) return { outcome: "left" };
  const problem = ends.problem(action.choices);
  return { outcome: ends.error ?? "streamed", ...(problem !== undefined && { problem }) };
}

/** A stream ends once: by an end of each choice and `[DONE]`, or by one error. */
class StreamEnds {
  readonly #finishes = new Map<number, number>();
  #done = 0;
  #errors = 0;
  #late = 0;
  error: string | undefined;

  see(data: string): void {
    if (this.#done + this.#errors > 0) this.#late++;
    if (data === "[DONE]") {
      this.#done++;
      return;
    }
    const frame = JSON.parse(data) as {
      error?: { code: string };
      choices?: { index: number; finish_reason: string | null }[];
    };
    if (frame.error) {
      this.#errors++;
      this.error = `stream ${frame.error.code}`;
    }
    for (const { index, finish_reason } of frame.choices ?? []) {
      if (finish_reason !== null) this.#finishes.set(index, (this.#finishes.get(index) ?? 0) + 1);
    }
  }

  problem(choices: number): string | undefined {
    const counts = JSON.stringify({
      done: this.#done,
      errors: this.#errors,
      finishes: Object.fromEntries(this.#finishes),
    });
    if (this.#late > 0) return `frames after the end: ${counts}`;
    if (this.#done + this.#errors !== 1) return `not one end: ${counts}`;
    if ([...this.#finishes.values()].some((count) => count !== 1))
      return `a choice ends twice: ${counts}`;
    if (this.#done === 1 && this.#finishes.size !== choices)
      return `not all choices end: ${counts}`;
    return undefined;
  }
}

async function load(
  server: TestServer,
  action: Extract<Action, { type: "load" }>,
): Promise<Performed> {
  const { name, folder, inPlace, isGood } = action;
  const body = { lora_name: name, lora_path: folder, load_inplace: inPlace };
  const response = await send(server, "/v1/load_lora_adapter", body);
  const text = await response.text();
  const { status } = response;
  const kind = isGood ? "load" : "load of a bad one";
  // 503 where all that is in memory is in use: room is made before an adapter is looked at closely.
  const allowed = isGood ? [200, 400, 503] : [400, 404, 503];
  const isFine = allowed.includes(status) && (!isGood || status !== 400 || /already/.test(text));
  return {
    outcome: `${kind} ${status}`,
    ...(!isFine && { problem: `${kind} ${folder}: ${status} ${text}` }),
  };
}

async function unload(server: TestServer, name: string): Promise<Performed> {
  const response = await send(server, "/v1/unload_lora_adapter", { lora_name: name });
  const text = await response.text();
  const { status } = response;
  const isFine = status === 200 || status === 404;
  return { outcome: `unload ${status}`, ...(!isFine && { problem: `unload: ${status} ${text}` }) };
}

async function look({ app }: TestServer, path: string): Promise<Performed> {
  const headers = { authorization: `Bearer ${operatorKey}` };
  const response = await app.fetch(new Request(`http://soak${path}`, { headers }));
  await response.text();
  const { status } = response;
  return { outcome: `look ${status}`, ...(status !== 200 && { problem: `${path}: ${status}` }) };
}

async function send({ app }: TestServer, path: string, body: object, signal?: AbortSignal) {
  const headers = { authorization: `Bearer ${operatorKey}`, "content-type": "application/json" };
  const text = JSON.stringify(body);
  return app.fetch(
    abortableRequest(`http://soak${path}`, {
      method: "POST",
      headers,
      body: text,
      signal: signal ?? null,
    }),
  );
}
