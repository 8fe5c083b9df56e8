/** Keeps the messages of one client together in PGlite, whose single session all clients share. */
import type { PGlite } from "@electric-sql/pglite";

/**
 * A query in the extended protocol is several messages (Parse, Bind, Execute, …) that end with Sync, and
 * they speak of *the* unnamed statement. pglite-socket 0.2.17 lets other clients in between them, so that
 * one client may bind its values to another's query. It does keep others out during a transaction, hence
 * an exchange that is not yet at its Sync is shown to it as one.
 * @param onThrow hears what PGlite itself throws, which is never a statement's error
 * @see https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
 */
export function withWholeExchanges(
  db: PGlite,
  onThrow: (error: unknown) => void = () => {},
): PGlite {
  let isOpen = false;
  const own = {
    isInTransaction: () => isOpen || db.isInTransaction(),
    async execProtocolRawStream(...call: Parameters<PGlite["execProtocolRawStream"]>) {
      isOpen = "PBDECH".includes(String.fromCharCode(call[0][0] ?? 0));
      try {
        return await db.execProtocolRawStream(...call);
      } catch (error) {
        onThrow(error);
        throw error;
      }
    },
    /** The server's own rollback, when a client has gone in the middle. */
    exec(...call: Parameters<PGlite["exec"]>) {
      isOpen = false;
      return db.exec(...call);
    },
  };
  return new Proxy(db, {
    get(target, name) {
      if (Object.hasOwn(own, name)) return own[name as keyof typeof own];
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
