/** Lets waiting sequences run: whose turn it is, whether there is room, and which adapter gets a slot. */
import type { BlockManager, Prefix } from "./block-manager.ts";
import type { CrowdCredit } from "./crowd-credit.ts";
import type { FairQueue } from "./fair-queue.ts";
import type { Families } from "./families.ts";
import type { PrefixSharing } from "./prefix-sharing.ts";
import type { PromptPace } from "./prompt-pace.ts";
import type { RunningSet } from "./running-set.ts";
import { remaining, type Sequence, unscored } from "./sequence.ts";
import { type Shares, sharesOf } from "./shares.ts";
import type { SlotTable } from "./slot-table.ts";
import { SlotTurns } from "./slot-turns.ts";
import { countTokens, decodes, type StepPlan, tokensOf } from "./step-plan.ts";
import type { StepRow } from "./types.ts";

export type AdmissionLimits = {
  /** Tokens computed in one step, decode and prefill together. */
  stepTokensMax: number;
  /** Tokens of one prompt computed in one step, so that others keep decoding meanwhile. */
  prefillChunkMax: number;
  /** Sequences that run at one time. */
  sequencesMax: number;
  /** Tokens of prompts of which one step tells how likely they were: each costs a row of logits; absent is 32. */
  scoredTokensMax?: number;
  /** How long a sequence waits for an adapter slot, or for places for all its choices, before they are kept free for it. */
  slotWaitMsMax: number;
};

/** Rows that one step may have: of those who run, some of them in places that crowds are kept from. */
export function rowsOfStepMax({ sequencesMax }: Pick<AdmissionLimits, "sequencesMax">): number {
  return sequencesMax + Math.floor(sequencesMax * placesKeptShare);
}

export type AdmissionParts = {
  limits: AdmissionLimits;
  queue: FairQueue<Sequence>;
  running: RunningSet;
  blocks: BlockManager;
  slots: SlotTable;
  prefixes: PrefixSharing;
  families: Families;
  pace: Pick<PromptPace, "tokensMax">;
  credit: CrowdCredit;
};

export class Admission {
  readonly #parts: AdmissionParts;
  readonly #slotTurns: SlotTurns;
  #shares: Shares = sharesOf([], () => 0);
  #hasManyPrompts = false;
  /** Tokens of prompts that crowding tenants may have computed: some for each step, saved until a call is worth it. */
  #crowdTokens = crowdChunkTokens;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
    this.#slotTurns = new SlotTurns(parts);
  }

  /** A step is planned anew. */
  begin(shares: Shares): void {
    this.#shares = shares;
    this.#hasManyPrompts = this.#countPrompts() > 1;
    this.#parts.credit.begin(shares.crowdShare);
    const tokens = this.#crowdsAreReady() ? crowdTokensWhenReady : crowdTokensPerStep;
    this.#crowdTokens = Math.min(crowdChunkTokens, this.#crowdTokens + tokens);
  }

  /** Prompts that are computed or may be begun, those of crowds aside. */
  #countPrompts(): number {
    const { running, queue, limits } = this.#parts;
    let count = 0;
    for (const sequence of running.all()) {
      if (!decodes(sequence) && !this.#shares.isCrowding(sequence.tenant)) count++;
    }
    if (running.size >= limits.sequencesMax) return count;
    for (const [tenant, waiting] of queue.waitingByTenant()) {
      if (!this.#shares.isCrowding(tenant)) count += waiting;
    }
    return count;
  }

  /** Whether crowding tenants have more sequences to decode than they get rows for, so that further ones only wait. */
  #crowdsAreReady(): boolean {
    const { isCrowding, rowsMax } = this.#shares;
    const ready = new Map<string, number>();
    for (const sequence of this.#parts.running.all()) {
      const { tenant } = sequence;
      if (!isCrowding(tenant)) continue;
      ready.set(tenant, (ready.get(tenant) ?? 0) + (decodes(sequence) ? 1 : 0));
    }
    return [...ready.values()].every((count) => count >= 2 * rowsMax);
  }

  /**
   * Starts sequences in the order of their turns while there are places, tokens in the step's budget, blocks and
   * slots. What costs nothing to find out comes first: most who wait are passed over in most steps.
   */
  admit(plan: StepPlan, nowMs: number): void {
    const { limits, queue, running, prefixes, families } = this.#parts;
    this.#slotTurns.begin();
    const held = running.size + this.#placesKept();
    let started = 0;
    let keepsForCrowd = false;
    const startedOf = new Map<string, number>();
    let lookedUp = 0;
    const full = new Set<string>();
    for (const sequence of queue.turns()) {
      const { tenant } = sequence;
      const places = this.#placesFor(tenant, startedOf.get(tenant) ?? 0);
      const isKept = keepsForCrowd && places === limits.sequencesMax;
      const free = isKept ? 0 : places - held - started;
      if (lookedUp > lookupTokensMax) return;
      if (free <= 0) {
        // Further behind may be somebody else, who has less than its share.
        full.add(tenant);
        if (full.size === queue.tenants) return;
        continue;
      }
      const { length } = sequence.tokens;
      if (this.chunk(plan, sequence, length) === 0) {
        if (lacksScores(this.#scoresLeft(plan), sequence)) continue;
        if (this.#shares.isCrowding(tenant)) continue;
        return;
      }
      if (families.isLed(sequence) || this.#isBehindAnother(sequence)) continue;
      const followers = families.followersOf(sequence).length;
      if (free < Math.min(limits.sequencesMax, 1 + followers)) {
        sequence.placesMissedAtMs ??= nowMs;
        // Fewer choices pass for a while; then places are kept free until all of them fit.
        if (nowMs - sequence.placesMissedAtMs < limits.slotWaitMsMax) continue;
        if (!this.#shares.isCrowding(tenant)) return;
        // A crowd's choices wait for places of the crowd's: those that are kept from it are open as ever.
        keepsForCrowd = true;
        continue;
      }
      const fitsStep = this.chunk(plan, sequence, length) === length;
      if (!this.#slotTurns.isOpenTo(sequence, fitsStep)) {
        this.#slotTurns.wait(sequence, nowMs);
        continue;
      }
      if (sequence.blockNames.length === 0) lookedUp += sequence.tokens.length;
      const prefix = prefixes.find(sequence);
      sequence.behind = prefixes.computedBy(sequence, prefix, running.all());
      if (sequence.behind) continue;
      // Whoever is next keeps its turn: smaller ones behind it must not eat up the room it waits for.
      if (!this.#hasRoomFor(sequence, prefix, followers)) return;
      this.#takeSlot(plan, sequence);
      running.start(sequence, prefix);
      started += 1 + followers;
      startedOf.set(tenant, (startedOf.get(tenant) ?? 0) + 1 + followers);
      plan.prefill.push(this.prefillRow(plan, sequence));
    }
  }

  /** How many of the tokens that a sequence lacks this step may compute. */
  chunk(plan: StepPlan, sequence: Sequence, missing: number): number {
    const { stepTokensMax, prefillChunkMax } = this.#parts.limits;
    const scores = unscored(sequence) > 0 ? this.#scoresLeft(plan) : missing;
    const crowd = this.#shares.isCrowding(sequence.tenant) ? this.#crowdChunk(plan) : missing;
    const { tokensMax } = this.#parts.pace;
    // A long prompt leaves half of the time to others, that short ones need not wait for all of it.
    const isShort = tokensMax < stepTokensMax;
    const own = isShort && this.#hasManyPrompts ? Math.ceil(tokensMax / 2) : tokensMax;
    const inTime = Math.min(own, tokensMax - countTokens(plan.prefill));
    const most = Math.min(scores, crowd, inTime);
    return Math.max(0, Math.min(stepTokensMax - tokensOf(plan), prefillChunkMax, missing, most));
  }

  /** Of how many tokens of prompts this step may still tell how likely they were. */
  #scoresLeft({ prefill }: StepPlan): number {
    const planned = prefill.reduce((sum, { scores = 0 }) => sum + scores, 0);
    return Math.max(0, (this.#parts.limits.scoredTokensMax ?? scoredTokensMaxDefault) - planned);
  }

  /** The next chunk of a prompt; with its last one, others that ask for the same go on from there. */
  prefillRow(plan: StepPlan, sequence: Sequence): StepRow {
    const { running, families, limits, credit } = this.#parts;
    const row = running.row(sequence, this.chunk(plan, sequence, remaining(sequence)));
    const { length } = row.tokens;
    if (this.#shares.isCrowding(sequence.tenant)) {
      this.#crowdTokens -= length;
      credit.payPrompt(length);
    } else credit.earnPrompt(length);
    if (row.samples === (row.scores ?? 0)) return row;
    let places = limits.sequencesMax - running.size;
    for (const { forks = [] } of plan.prefill) places -= forks.length;
    const forks = families.followersOf(sequence).slice(0, Math.max(0, places));
    return forks.length === 0 ? row : { ...row, forks: forks.map(({ id }) => id) };
  }

  #crowdChunk(plan: StepPlan): number {
    // What nobody else uses may be had on credit: an engine that does nothing serves nobody.
    if (tokensOf(plan) === 0) return crowdChunkTokens;
    if (!this.#parts.credit.isGood) return 0;
    return this.#crowdTokens < crowdChunkTokens ? 0 : crowdChunkTokens;
  }

  /** Who has less than its share need not wait until a crowd's long answers end: some places are kept from crowds. */
  #placesFor(tenant: string, started: number): number {
    const { limits } = this.#parts;
    const { sequencesMax } = limits;
    if (this.#shares.lacks(tenant, sequencesMax) <= started) return sequencesMax;
    // Short requests are seldom seen running; what their tenant was given so far tells all the same.
    if (!this.#shares.isBehind(tenant)) return sequencesMax;
    return rowsOfStepMax(limits);
  }

  /** Places for those who will go on from prompts that are being computed. */
  #placesKept(): number {
    const { running, families } = this.#parts;
    let kept = 0;
    for (const sequence of running.all()) kept += families.followersOf(sequence).length;
    return kept;
  }

  /** Whether it waits for what a running sequence computes for both. */
  #isBehindAnother({ behind }: Sequence): boolean {
    return (
      behind !== undefined &&
      behind.ahead.computed < behind.until &&
      this.#parts.running.has(behind.ahead)
    );
  }

  /**
   * Room for the whole prompt, and a further block for everybody, forks included: else the next decode step would preempt the
   * newcomer, and its prefill would be computed again and again.
   */
  #hasRoomFor(sequence: Sequence, prefix: Prefix, followers: number): boolean {
    const { blocks, running } = this.#parts;
    const spare = running.size === 0 ? 0 : running.size + 1 + followers;
    const shared = prefix.blocks.length - prefix.idle;
    return blocks.blocksFor(sequence.tokens.length) - shared + spare <= blocks.free;
  }

  #takeSlot(plan: StepPlan, sequence: Sequence): void {
    if (sequence.adapter === undefined) return;
    const { slot, load } = this.#parts.slots.acquire(sequence.adapter);
    sequence.slot = slot;
    if (load) plan.loads.push({ slot, digest: sequence.adapter });
  }
}

/** Whether it is only the scores of others that keep a sequence from this step: those behind it need not wait. */
function lacksScores(scoresLeft: number, sequence: Sequence): boolean {
  return scoresLeft === 0 && unscored(sequence) > 0;
}

/** While others run: more would hold up their next tokens. */
const crowdTokensPerStep = 8;
/** And where there are enough that decode already. */
const crowdTokensWhenReady = 2;
/** A call for few tokens takes nearly as long as one for these. */
const crowdChunkTokens = 64;
/** Of all places, beside them. */
const placesKeptShare = 0.25;
const scoredTokensMaxDefault = 32;
/** Tokens of newcomers whose blocks are named in one step: hashing takes time from those who decode. */
const lookupTokensMax = 8192;
