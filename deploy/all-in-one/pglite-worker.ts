/** PGlite on disk behind a Unix socket, in a thread of its own because it blocks the thread it runs on. */
import { rm } from "node:fs/promises";
import { parentPort, workerData } from "node:worker_threads";
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import { withWholeExchanges } from "./whole-exchanges.ts";

const { folder, socketPath, connectionsMax } = workerData as {
  folder: string;
  socketPath: string;
  connectionsMax: number;
};

// A thread that died before this one may have left its socket.
await rm(socketPath, { force: true });
const db = await PGlite.create(folder);
const server = new PGLiteSocketServer({
  db: withWholeExchanges(db, endOnAbort),
  path: socketPath,
  maxConnections: connectionsMax,
});
await server.start();

parentPort?.on("message", async () => {
  await server.stop();
  await db.close();
  process.exit(0);
});
parentPort?.postMessage("ready");

/** A statement that is wrong is answered; what is thrown is a broken engine, and only a new one helps. */
function endOnAbort(error: unknown): void {
  // What WebAssembly throws when it aborts.
  if (!(error instanceof Error) || error.name !== "RuntimeError") return;
  setImmediate(() => {
    throw error;
  });
}
