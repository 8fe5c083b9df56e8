/** From when tokens came, how quickly sequences decoded while all of them did. */

/**
 * Tokens a second between the moment when the last sequence had its first token and the one when the first
 * sequence had its last: prompts, and steps that not all share, are left out.
 * @param arrivals for each sequence, when each of its tokens came, in milliseconds
 */
export function rateWhileAllDecode(arrivals: readonly (readonly number[])[]): number {
  const from = Math.max(...arrivals.map((times) => times[0] ?? Number.NaN));
  const shortest = arrivals.reduce((one, other) => (last(other) < last(one) ? other : one));
  // All advance by one token in a step, and their messages come a little apart.
  const steps = shortest.filter((time) => time > from).length;
  return (arrivals.length * steps * 1000) / (last(shortest) - from);
}

function last(times: readonly number[]): number {
  return times.at(-1) ?? Number.NaN;
}
