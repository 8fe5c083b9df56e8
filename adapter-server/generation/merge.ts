/** Many generators read as one. */

/**
 * Items of all generators in the order in which they come.
 * @param atOnce how many are read at one time; a further one begins when one of them ends
 */
export async function* merge<T>(
  generators: readonly AsyncGenerator<T, void, void>[],
  atOnce = generators.length,
): AsyncGenerator<T, void, void> {
  const next = async (index: number) => ({ index, result: await generators[index]?.next() });
  const pending = new Map<number, ReturnType<typeof next>>();
  let begun = 0;
  const begin = () => {
    for (; pending.size < atOnce && begun < generators.length; begun++) {
      pending.set(begun, next(begun));
    }
  };
  begin();
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      if (!result || result.done) {
        pending.delete(index);
        begin();
      } else {
        pending.set(index, next(index));
        yield result.value;
      }
    }
  } finally {
    // What is left behind ends now; what it still had to say, nobody is there to hear.
    for (const promise of pending.values()) promise.catch(() => {});
    for (const generator of generators) generator.return().catch(() => {});
  }
}
