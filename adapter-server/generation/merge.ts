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
  const read = (index: number) => {
    const promise = next(index);
    // It may fail while the reader is slow to ask for more: nobody waits for it then, and the process would end.
    promise.catch(() => {});
    pending.set(index, promise);
  };
  let begun = 0;
  const begin = () => {
    for (; pending.size < atOnce && begun < generators.length; begun++) read(begun);
  };
  begin();
  try {
    while (pending.size > 0) {
      const { index, result } = await Promise.race(pending.values());
      if (!result || result.done) {
        pending.delete(index);
        begin();
      } else {
        read(index);
        yield result.value;
      }
    }
  } finally {
    // What is left behind ends now; what it still had to say, nobody is there to hear.
    for (const generator of generators) generator.return().catch(() => {});
  }
}
