/** PGlite on disk behind a Unix socket, in a thread of its own because it blocks the thread it runs on. */
import { parentPort, workerData } from "node:worker_threads";
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import { withWholeExchanges } from "./whole-exchanges.ts";

const { folder, socketPath, connectionsMax } = workerData as {
  folder: string;
  socketPath: string;
  connectionsMax: number;
};

const db = await PGlite.create(folder);
const server = new PGLiteSocketServer({
  db: withWholeExchanges(db),
  path: socketPath,
  maxConnections: connectionsMax,
});
await server.start();

parentPort?.on("message", async () => {
  await server.stop();
  await db.close();
  parentPort?.postMessage("closed");
});
parentPort?.postMessage("ready");
