/** Sends every row to every candidate, judges the answers and writes each down as it comes. */
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import type { DatasetRow } from "../datasets/jsonl.ts";
import type { RunRequest } from "../schema.ts";
import type { Judge } from "../scoring/scorers.ts";
import { type Answered, type AskParts, ask } from "./ask.ts";
import type { PinnedCandidate } from "./candidates.ts";
import { answerId, type NewAnswer, type RunCandidate, type RunStore } from "./store.ts";

export type Execution = {
  runId: string;
  request: RunRequest;
  /** The caller's own; it lives only as long as the run runs. */
  key: string;
  rows: readonly DatasetRow[];
  judge: Judge;
};

/**
 * Asks what has no answer yet. Rows go out in their order, each to all candidates in turn, so that all of
 * them meet the same load. A candidate that cannot go on is given up; the others continue.
 * @throws the signal's reason, or the database's error
 */
export async function execute(
  execution: Execution,
  { store, ...parts }: AskParts & { store: RunStore },
  signal: AbortSignal,
): Promise<void> {
  const { runId, request, key, rows, judge } = execution;
  const done = await store.answered(runId);
  const candidates = (await store.candidates(runId)).filter(({ measured }) => !measured);
  const givenUp = new Set<number>();
  const failed = new AbortController();
  const stopped = anySignal([signal, failed.signal]);

  let next = 0;
  const work = async () => {
    while (next < rows.length * candidates.length) {
      stopped.throwIfAborted();
      const index = next++;
      const row = Math.floor(index / candidates.length);
      const candidate = candidates[index % candidates.length];
      const question = rows[row];
      if (!candidate || !question || givenUp.has(candidate.position)) continue;
      if (done.has(answerId({ position: candidate.position, row }))) continue;

      const { messages, reference } = question;
      const { maxTokens, task } = request;
      const answered = await ask(
        { model: candidate.model, messages, maxTokens, task, runId, key },
        parts,
        stopped,
      );
      const verdict = await judgeAnswer({ answered, candidate, reference, judge });
      if (givenUp.has(candidate.position)) continue;
      if (verdict.giveUp !== undefined) {
        givenUp.add(candidate.position);
        await store.failCandidate(runId, candidate.position, verdict.giveUp);
      }
      if (verdict.keep) {
        await store.saveAnswer({ runId, position: candidate.position, row, ...verdict.keep });
      }
    }
  };
  // The first worker to fail stops the others, and all have ended before the run is told as ended.
  const workers = Array.from({ length: request.concurrency }, () =>
    work().catch((error) => {
      failed.abort(error);
      throw error;
    }),
  );
  const outcomes = await Promise.allSettled(workers);
  signal.throwIfAborted();
  const broken = outcomes.find((outcome) => outcome.status === "rejected");
  if (broken) throw failed.signal.reason;
}

/** What to write down, and why to give the candidate up, if so. */
type Verdict = { keep?: Omit<NewAnswer, "runId" | "position" | "row">; giveUp?: string };

async function judgeAnswer(given: {
  answered: Answered;
  candidate: RunCandidate;
  reference: string;
  judge: Judge;
}): Promise<Verdict> {
  const { answered, candidate, reference, judge } = given;
  if (answered.type === "errored") {
    const { error, hopeless, facts } = answered;
    // A hopeless row keeps no answer, so that a resumed run asks it again.
    return hopeless ? { giveUp: error } : { keep: { reference, error, ...facts } };
  }
  const kept = { reference, answer: answered.text, ...answered.facts };
  const unproved = proveAdapter(candidate, answered.facts.adapterDigest);
  if (unproved !== undefined) return { keep: { ...kept, error: unproved }, giveUp: unproved };
  try {
    return { keep: { ...kept, correct: await judge.isCorrect(answered.text, reference) } };
  } catch (error) {
    return { keep: { ...kept, error: `not judged: ${(error as Error).message}` } };
  }
}

/**
 * Why the answer does not come from the candidate's own weights; `undefined` when it does. A score
 * without this proof would be the base model's, or another adapter's.
 */
function proveAdapter(
  candidate: Pick<PinnedCandidate, "kind" | "model" | "adapterDigest">,
  answeredBy: string | undefined,
): string | undefined {
  if (candidate.kind === "route" || candidate.adapterDigest === answeredBy) return undefined;
  const said = answeredBy === undefined ? "no adapter" : `the adapter sha256:${answeredBy}`;
  const wanted =
    candidate.adapterDigest === undefined ? "no adapter" : `sha256:${candidate.adapterDigest}`;
  return `adapter_not_applied: '${candidate.model}' has to be answered with ${wanted}, and was with ${said}`;
}
