/** Plans a step: who runs decodes first, prompts fill what its budget leaves, and who waits joins where there is room. */
import type { Admission } from "./admission.ts";
import type { BlockManager } from "./block-manager.ts";
import type { CrowdCredit } from "./crowd-credit.ts";
import type { FairQueue } from "./fair-queue.ts";
import type { RunningSet } from "./running-set.ts";
import { remaining, type Sequence } from "./sequence.ts";
import { RecentTenants, type Shares, sharesOf, withinShares } from "./shares.ts";
import type { SlotTable } from "./slot-table.ts";
import type { Speculation } from "./speculation.ts";
import { decodes, emptyPlan, type StepPlan } from "./step-plan.ts";

export type StepPlannerParts = {
  running: RunningSet;
  admission: Admission;
  speculation: Speculation;
  blocks: BlockManager;
  slots: SlotTable;
  queue: FairQueue<Sequence>;
  credit: CrowdCredit;
  nowMs: () => number;
  /** Sequences that decode in one step. */
  rowsMax: number;
  /** Whether a sequence that decodes alone is computed with other weights. */
  singleWeights: boolean;
};

export class StepPlanner {
  readonly #parts: StepPlannerParts;
  readonly #recent = new RecentTenants();
  #steps = 0;

  constructor(parts: StepPlannerParts) {
    this.#parts = parts;
  }

  /** Somebody asks on behalf of the tenant. */
  expect(tenant: string): void {
    this.#recent.see(tenant, this.#parts.nowMs());
  }

  plan(): StepPlan {
    const { running, queue, nowMs } = this.#parts;
    const plan = emptyPlan();
    for (const { tenant } of running.all()) this.#recent.see(tenant, nowMs());
    const recent = this.#recent.at(nowMs());
    const shares = sharesOf(running.all(), (tenant) => queue.servedOf(tenant), {
      expected: recent,
      waiting: queue.waitingByTenant(),
    });
    this.#parts.admission.begin(shares);
    const preempted = this.#planDecode(plan, shares);
    this.#planPrefill(plan, shares);
    // Who was preempted in this step would only take the blocks again that others were given.
    if (!preempted) this.#parts.admission.admit(plan, this.#parts.nowMs());
    return plan;
  }

  /** A row for each running sequence that lacks a single token, within shares. True when somebody lost its blocks. */
  #planDecode(plan: StepPlan, shares: Shares): boolean {
    const { running, speculation, slots, rowsMax, credit } = this.#parts;
    const preemptionsBefore = running.preemptions;
    this.#steps++;
    const isAwaited = ({ slot }: Sequence) => slot !== 0 && slots.isDraining(slot);
    let others: number | undefined;
    const isOpenToCrowds = (before: number) => {
      others = before;
      if (before === 0) return true;
      credit.earnRows(before);
      return credit.isGood;
    };
    const bounds = { rowsMax, isAwaited, isOpenToCrowds };
    const grown: Sequence[] = [];
    for (const sequence of withinShares(running.all().filter(decodes), shares, bounds)) {
      if (!running.has(sequence)) continue;
      if (running.makeRoom(sequence, plan.copies)) grown.push(sequence);
    }
    const decoding = grown.filter((sequence) => running.has(sequence));
    let room = speculation.room(decoding.length);
    for (const [index, sequence] of decoding.entries()) {
      const guesses = this.#guess(sequence, Math.floor(room / (decoding.length - index)));
      room -= guesses.length;
      sequence.steppedAt = this.#steps;
      plan.decode.push(running.row(sequence, 1, guesses));
    }
    if (this.#parts.singleWeights) markSingle(plan);
    if (others === undefined) credit.earnRows(decoding.length);
    else if (others > 0 && decoding.length > others) {
      credit.payRows(others, decoding.length - others);
    }
    return running.preemptions > preemptionsBefore;
  }

  /** Prompts that were begun, those of crowds last. */
  #planPrefill(plan: StepPlan, { isCrowding }: Shares): void {
    const { running, admission } = this.#parts;
    const prompts = running.all().filter((sequence) => !decodes(sequence));
    const crowds = prompts.filter(({ tenant }) => isCrowding(tenant));
    for (const sequence of [...prompts.filter(({ tenant }) => !isCrowding(tenant)), ...crowds]) {
      // One that is scored may lack room for logits where others have what they need.
      if (admission.chunk(plan, sequence, remaining(sequence)) === 0) continue;
      plan.prefill.push(admission.prefillRow(plan, sequence));
    }
  }

  /** Guesses at what the sequence says next; where blocks are short, only as many as those it holds have room for. */
  #guess(sequence: Sequence, max: number): number[] {
    const { blocks, running, speculation } = this.#parts;
    const { blockSize, free } = blocks;
    const { id, tokens } = sequence;
    const held = blocks.blocksOf(id).length * blockSize - tokens.length;
    const fit = free > running.size ? held + blockSize : held;
    const guesses = speculation.guess(sequence, Math.min(max, fit));
    blocks.grow(id, tokens.length + guesses.length);
    return guesses;
  }
}

/**
 * A row that decodes by itself, one token: of several, guessed ones as well, the weights of many rows are quicker. Prompts
 * are computed in a call of their own, and scores of theirs never hang on who is there.
 */
function markSingle(plan: StepPlan): void {
  const [row, another] = plan.decode;
  if (!row || another || row.tokens.length > 1 || row.scores) return;
  plan.decode = [{ ...row, isSingle: true }];
}
