/** Entry of the worker when sources run without a build: Node 20 has no `--import` hook in workers. */
import { register } from "tsx/esm/api";

register();
await import("./worker.ts");
