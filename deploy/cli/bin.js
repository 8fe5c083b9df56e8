#!/usr/bin/env node
// Starts the command line: the compiled program in `dist`, or the sources through tsx in a checkout.
import { existsSync } from "node:fs";
import process from "node:process";

const compiled = new URL("./main.js", import.meta.url);
if (!existsSync(compiled)) {
  const { register } = await import("tsx/esm/api");
  register();
}
const { run } = await import(
  existsSync(compiled) ? compiled.href : new URL("./main.ts", import.meta.url).href
);
process.exitCode = await run(process.argv.slice(2));
