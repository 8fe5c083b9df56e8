/** How a driver tells what it found: one line of JSON for each check, read by `test/clients/suite.ts`. */
import assert from "node:assert/strict";

/** Runs one check; a failure is told, and the next one runs. */
export async function check(name, run) {
  try {
    await run();
    tell({ check: name, ok: true });
  } catch (error) {
    tell({ check: name, ok: false, error: String(error?.message ?? error).slice(0, 600) });
  }
}

/** What was thrown. */
export async function thrownBy(run) {
  try {
    await run();
  } catch (error) {
    return error;
  }
  return assert.fail("nothing was thrown");
}

/** Everything that a stream brings. */
export async function all(stream) {
  const list = [];
  for await (const one of stream) list.push(one);
  return list;
}

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

export const url = process.env.SWITCHYARD_URL;
export const apiKey = process.env.SWITCHYARD_API_KEY;
/** Models of several providers behind the gateway, all with the same script. */
export const models = process.env.SWITCHYARD_MODELS.split(",");
/** A base model and an adapter of the embedded engine. */
export const base = process.env.SWITCHYARD_BASE;
export const adapter = process.env.SWITCHYARD_ADAPTER;
export const plainAnswer = process.env.SWITCHYARD_PLAIN_ANSWER;
export { assert };
