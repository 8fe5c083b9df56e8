/** Runs every case in every cell: each dialect in front of each upstream, streamed and whole. */
import assert from "node:assert/strict";
import { type Asked, type Case, cases } from "./cases.ts";
import type { Dialect, Upstream } from "./driver.ts";
import type { Ask, Heard, Raw } from "./neutral.ts";
import { dialects, modelOf, openStage, type Stage } from "./stage.ts";

export type Cell = {
  case: string;
  dialect: string;
  upstream: string;
  stream: boolean;
  /**
   * `refused`: the upstream has no place for what was asked, and the error named it. `none`: the dialect has no words for it, or
   * the upstream never says it, so there is nothing to test.
   */
  outcome: "passed" | "refused" | "none" | "failed";
  error?: string;
};

/** @param only parts of the names of cases, dialects and upstreams; absent runs all */
export async function runCells(only: readonly string[] = []): Promise<Cell[]> {
  const stage = await openStage();
  const isAsked = (names: string[]) =>
    only.every((word) => names.some((name) => name.includes(word)));
  const runColumn = async (upstream: Upstream): Promise<Cell[]> => {
    const cells: Cell[] = [];
    for (const dialect of dialects) {
      for (const one of cases) {
        if (!isAsked([one.name, dialect.name, upstream.name])) continue;
        for (const stream of one.streamOnly ? [true] : [false, true]) {
          cells.push(await runCell(stage, { one, dialect, upstream, stream }));
        }
      }
    }
    return cells;
  };
  try {
    return (await Promise.all(stage.upstreams.map(runColumn))).flat();
  } finally {
    await stage.close();
  }
}

type CellOf = { one: Case; dialect: Dialect; upstream: Upstream; stream: boolean };

async function runCell(stage: Stage, { one, dialect, upstream, stream }: CellOf): Promise<Cell> {
  const cell = { case: one.name, dialect: dialect.name, upstream: upstream.name, stream };
  if (!exists(one, dialect, upstream)) return { ...cell, outcome: "none" };
  try {
    const asked = await ask(stage, { one, dialect, upstream, stream });
    const named = one.refused?.({ dialect, upstream });
    if (named) {
      assert.ok(asked.refusal, `it should have been refused, and was answered`);
      assert.match(asked.refusal.message, named);
      assert.equal(asked.refusal.status, 400);
      return { ...cell, outcome: "refused" };
    }
    if (!one.fails) assert.equal(asked.refusal, undefined);
    one.check(asked);
    return { ...cell, outcome: "passed" };
  } catch (error) {
    return { ...cell, outcome: "failed", error: String((error as Error)?.message ?? error) };
  }
}

function exists(one: Case, dialect: Dialect, upstream: Upstream): boolean {
  const needs = [...(one.needs ?? []), ...(isConversation(one) ? (["conversation"] as const) : [])];
  if (needs.some((feature) => dialect.lacks.has(feature))) return false;
  if (one.fault && !upstream.scripted) return false;
  return one.said(upstream) !== undefined;
}

/** Whether more is asked than what a text could say. */
function isConversation({ asks: [first, second] }: Case): boolean {
  if (second || typeof first !== "object") return true;
  const { turns, ...more } = first;
  const parts = turns.flatMap((turn) => (turn.role === "user" ? turn.parts : []));
  const besides = Object.keys(more).some((name) => !textFields.has(name));
  return besides || turns.length > 1 || parts.some(({ type }) => type !== "text");
}

const textFields: ReadonlySet<string> = new Set<keyof Ask>([
  "stop",
  "outputTokensMax",
  "temperature",
  "unknown",
  "logprobs",
]);

/** Asks in turn, until there is an answer to the last or a refusal. */
async function ask(stage: Stage, { one, dialect, upstream, stream }: CellOf): Promise<Asked> {
  const client = stage.client(dialect, upstream);
  upstream.prepare(one.said(upstream) ?? []);
  const model = modelOf(upstream, one.fault);
  const heard: Heard[] = [];
  let raw: Raw | undefined;
  for (const next of one.asks) {
    const asked = typeof next === "function" ? next(heard) : next;
    // What the engine says is not known, so it need not be long.
    const bounded = upstream.scripted ? asked : { outputTokensMax: 24, ...asked };
    let answer: Heard;
    try {
      answer = await client.ask(bounded, { model, stream });
    } catch (thrown) {
      if (thrown instanceof assert.AssertionError) throw thrown;
      return {
        dialect,
        upstream,
        stream,
        heard,
        raw: await stage.raw(upstream),
        refusal: client.refusal(thrown),
      };
    }
    raw = await stage.raw(upstream);
    client.guard(raw, { stream });
    if (dialect.idPrefix) assert.ok(answer.id?.startsWith(dialect.idPrefix), `id ${answer.id}`);
    heard.push(answer);
  }
  assert.ok(raw);
  return { dialect, upstream, stream, heard, raw, seen: upstream.seen() };
}
