/** A short soak: what `npm run soak` does ten thousand times. Memory needs the long one to tell anything. */
import { expect, test } from "vitest";
import { soak } from "./soak.ts";

test("six hundred random requests, cancels, loads and unloads leave nothing behind, and each stream ends once", async () => {
  const { outcomes, problems } = await soak({ requests: 600, seed: 20_261_121 });
  expect(problems).toEqual([]);
  // All that is to be tried has been: else the test proves less than it says.
  const seen = Object.keys(outcomes).join("\n");
  for (const kind of [
    "answered",
    "streamed",
    "left",
    "left in the middle",
    "load 200",
    "unload 200",
  ]) {
    expect(outcomes[kind], `${kind} in\n${seen}`).toBeGreaterThan(5);
  }
  expect(outcomes["load of a bad one 400"]).toBeGreaterThan(5);
  expect(seen).toContain("503 server_is_overloaded");
});
