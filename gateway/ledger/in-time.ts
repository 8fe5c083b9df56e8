/** A question to the database that clients wait for, and that must not make them wait for long. */

/** @throws what `failure` makes of it when the database does not answer, or not in time */
export async function inTime<T>(
  query: Promise<T>,
  { timeoutMs, failure }: { timeoutMs: number; failure: (cause: unknown) => Error },
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([query, late]);
  } catch (cause) {
    throw failure(cause);
  } finally {
    clearTimeout(timer);
  }
}
