/** Loaded before a program: when it ends, its `/proc/self/status` goes to file descriptor 3. */
import { readFileSync, writeSync } from "node:fs";

process.on("exit", () => writeSync(3, readFileSync("/proc/self/status")));
