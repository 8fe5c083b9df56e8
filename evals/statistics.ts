/** The few statistics that a run reports, each with the paper that defines it. */

export type Interval = { lower: number; upper: number };

/** Outcomes of one candidate: rows judged right or wrong, and rows that could not be judged. */
export type Outcomes = { correct: number; judged: number; errored: number };

/**
 * Wilson's score interval of a share. It keeps its coverage for few rows and for shares near 0 and 1,
 * where the normal approximation fails.
 * @param z quantile of the standard normal; the default gives 95 %
 * @see Wilson 1927, doi:10.1080/01621459.1927.10502953; arXiv:2503.01747 on small evals
 */
export function wilsonInterval(correct: number, total: number, z = z95): Interval {
  if (total === 0) return { lower: 0, upper: 1 };
  const share = correct / total;
  const z2 = z * z;
  const centre = share + z2 / (2 * total);
  const spread = z * Math.sqrt((share * (1 - share)) / total + z2 / (4 * total * total));
  const scale = 1 + z2 / total;
  return {
    lower: correct === 0 ? 0 : (centre - spread) / scale,
    upper: correct === total ? 1 : (centre + spread) / scale,
  };
}

/**
 * The share of right answers with its 95 % interval. A row that errored could have been either, so the
 * lower bound counts it as wrong and the upper as right: trouble widens the interval, it never helps.
 * @see Manski, Partial Identification of Probability Distributions, 2003, §1.2 (missing outcomes)
 */
export function shareCorrect({ correct, judged, errored }: Outcomes): Interval & { score: number } {
  const asked = judged + errored;
  return {
    score: correct / judged,
    lower: wilsonInterval(correct, asked).lower,
    upper: wilsonInterval(correct + errored, asked).upper,
  };
}

/** Rows that two candidates were both judged on, and those of them that one alone had right. */
export type Paired = { n: number; gained: number; lost: number };

/**
 * How much larger one share is than another's on the same rows, with its 95 % interval. Rows that are hard
 * for one are hard for the other, so this says far more than two intervals that overlap. Half a row is
 * added to each of the four outcomes, without which few rows would give intervals that are too narrow.
 * @see Agresti and Min 2005, doi:10.1002/sim.1781
 */
export function pairedDifference(
  { n, gained, lost }: Paired,
  z = z95,
): Interval & { difference: number } {
  const [total, only, other] = [n + 2, gained + 0.5, lost + 0.5];
  const centre = (only - other) / total;
  const spread = (z * Math.sqrt(only + other - (only - other) ** 2 / total)) / total;
  return {
    difference: (gained - lost) / n,
    lower: Math.max(-1, centre - spread),
    upper: Math.min(1, centre + spread),
  };
}

/** The 0.975 quantile of the standard normal. */
const z95 = 1.959963984540054;
