/** Follows what a running stream uses up, has more reserved before that is too little, and ends it where nobody has more. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { inputMeters, outputMeters, type UsageVector } from "../../sdk/protocol/usage.ts";
import type { AnswerStream } from "../attempts/answer-stream.ts";
import type { Meter, Verdict } from "../attempts/relay.ts";
import type { GatewayLimits } from "../config.ts";
import type { Call } from "../dialects/dialect.ts";
import type { Allowance, Reservation } from "../metering/types.ts";
import { type Target, toPricedModel } from "../routing/resolve.ts";
import { countInputAtMost, countOutput } from "../tokens/count.ts";

export type Metered = { call: Call; target: Target; limits: GatewayLimits };

/** @returns nothing where no budget can run out under the stream, or where it is no text that is billed */
export function meterOf(reservation: Reservation, metered: Metered): Meter | undefined {
  if (metered.call.measure) return undefined;
  const allowance = reservation.allowance?.(toPricedModel(metered.target));
  return allowance && new StreamMeter(allowance, metered);
}

/**
 * Text is counted only when it may have come to what is reserved, since no token is shorter than a byte. Where the client
 * or the model bounds the output, that was reserved, and only an upstream that does not heed it comes further: then what
 * was used for certain counts, until that is more than was reserved. Else there is always a little more reserved than was used, so that the next words are
 * covered when they come.
 */
class StreamMeter implements Meter {
  readonly #allowance: Allowance;
  readonly #metered: Metered;
  #isBounded: boolean;
  /** Length of the text below which it need not be looked at again. */
  #enough = 0;
  #steps = 0;
  #countedChars = 0;
  #counted = 0;
  #mostAtOnce = 0;
  /** Smaller than what was reserved for the input, once that was of interest. */
  #inputTokens: number | undefined;
  #hasRecounted = false;
  /** No budget had more: nobody is asked again. */
  #refusal: HubError | undefined;

  constructor(allowance: Allowance, metered: Metered) {
    const { call, target } = metered;
    this.#allowance = allowance;
    this.#metered = metered;
    this.#isBounded = (call.outputTokensMax ?? target.model.maxOutputTokens) !== undefined;
  }

  check(reader: AnswerStream): Promise<Verdict> | undefined {
    // Some providers tell as they go what nobody sees, such as hidden reasoning.
    const isDue = this.#steps++ % stepsUnseenMax === 0 || reader.relayed.length >= this.#enough;
    if (!isDue) return undefined;
    const before = this.#counted;
    const usage = reader.usage?.usage;
    const told = sum(usage, inputMeters);
    const toldOutput = sum(usage, outputMeters) ?? 0;
    let outputTokens = Math.max(this.#count(reader), toldOutput);
    if (this.#isBounded && this.#left(outputTokens, told) < 0) {
      this.#isBounded = false;
      outputTokens = Math.max(this.#count(reader), toldOutput);
    }
    this.#mostAtOnce = Math.max(this.#mostAtOnce, before === 0 ? 0 : outputTokens - before);
    const ahead = this.#isBounded ? 0 : Math.max(aheadTokens, 2 * this.#mostAtOnce);
    let left = this.#left(outputTokens, told);
    if (left < ahead && told === undefined && this.#recount())
      left = this.#left(outputTokens, told);
    if (left >= ahead) {
      this.#waitFor(left - ahead, reader);
      return undefined;
    }
    if (this.#refusal === undefined) return this.#extend({ outputTokens, ahead, told, left });
    const beyond = left + this.#metered.limits.streamOverrunTokens;
    if (beyond < 0) return Promise.resolve({ mayPass: false, error: this.#refusal });
    this.#waitFor(beyond, reader);
    return undefined;
  }

  /** Not to look again before the text may have come to so many tokens more. */
  #waitFor(tokens: number, { relayed }: AnswerStream): void {
    const chars = Math.floor(tokens / (relayed.bytesPerChar ?? 1));
    this.#enough = relayed.length + Math.max(1, chars);
  }

  #left(outputTokens: number, told: number | undefined): number {
    return this.#allowance.left({ inputTokens: told ?? this.#inputTokens, outputTokens });
  }

  async #extend({
    outputTokens,
    ahead,
    told,
    left,
  }: {
    outputTokens: number;
    ahead: number;
    told: number | undefined;
    left: number;
  }): Promise<Verdict> {
    const { streamStepTokens, streamOverrunTokens } = this.#metered.limits;
    const inputTokens = told ?? this.#inputTokens;
    let refusal: HubError | undefined;
    // Near a budget's end there may be room for a few words still.
    for (const step of [streamStepTokens, Math.ceil(streamStepTokens / 8)]) {
      try {
        await this.#allowance.extend({ inputTokens, outputTokens: outputTokens + ahead + step });
        this.#enough = 0;
        return { mayPass: true };
      } catch (thrown) {
        if (!(thrown instanceof HubError) || thrown.code !== "insufficient_quota") throw thrown;
        refusal = thrown;
      }
    }
    this.#refusal = refusal;
    const isWithin = left + streamOverrunTokens >= 0;
    if (isWithin && streamOverrunTokens > 0) return { mayPass: true };
    return { mayPass: isWithin, ...(refusal && { error: refusal }) };
  }

  /** The input was reserved by its bytes; counted it is less, and what is left of that is for the output. */
  #recount(): boolean {
    const { call, target, limits } = this.#metered;
    if (this.#hasRecounted || call.bodyBytes > limits.recountBytesMax) return false;
    this.#hasRecounted = true;
    this.#inputTokens = countInputAtMost(call, target.model.tokenizer, limits);
    return true;
  }

  #count({ relayed }: AnswerStream): number {
    const { tokenizer } = this.#metered.target.model;
    const text = relayed.toString();
    if (tokenizer === undefined) {
      const guessed = countOutput(text, undefined);
      // A guess is no proof that more was said than was asked for.
      this.#counted = this.#isBounded ? Math.floor(guessed / 2) : guessed;
      return this.#counted;
    }
    this.#counted += countOutput(text.slice(this.#countedChars), tokenizer);
    this.#countedChars = text.length;
    return this.#counted;
  }
}

function sum(
  usage: UsageVector | undefined,
  meters: readonly (keyof UsageVector)[],
): number | undefined {
  if (!usage || meters.every((meter) => usage[meter] === undefined)) return undefined;
  return meters.reduce((all, meter) => all + (usage[meter] ?? 0), 0);
}

const aheadTokens = 16;
const stepsUnseenMax = 16;
