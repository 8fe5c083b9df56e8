import { expect, test } from "vitest";
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";
import { newId } from "../../sdk/protocol/ids.ts";
import { runLine } from "./run-line.ts";
import { batchRow } from "./store.ts";

const at = "2026-06-01T12:00:00Z";
const absent = Object.fromEntries(
  [
    ...["output_file_id", "error_file_id", "output_expires_after", "errors", "metadata", "tags"],
    ...["task", "model", "in_progress_at", "finalizing_at", "completed_at", "failed_at"],
    ...["expired_at", "cancelling_at", "cancelled_at"],
  ].map((name) => [name, null]),
);
const batch = batchRow.parse({
  ...absent,
  ...{ id: "batch_1", project_id: "proj_1", key_id: newId("key"), input_file_id: "file-1" },
  ...{ endpoint: "/v1/chat/completions", completion_window: "7d", status: "in_progress" },
  ...{ total: 1, completed: 0, failed: 0, result_bytes: 0, created_at: at, expires_at: at },
});

test("a limit whose window is a month is waited for, and not asked again and again", async () => {
  let asked = 0;
  const halt = new AbortController();
  const ask = () => {
    // Who asks a second time has not waited.
    if (++asked === 2) halt.abort();
    else setTimeout(() => halt.abort(), 100);
    const retryAfterMs = 30 * 24 * 60 * 60_000;
    return toErrorResponse(new HubError("rate_limit_exceeded", "Too many.", { retryAfterMs }));
  };
  const line = { number: 1, customId: "a", model: "m", body: () => "{}" };
  const limits = { batchAttemptsMax: 10, batchRetryMs: 1, batchRetryMsMax: 1 };
  const signals = { halt: halt.signal, kill: new AbortController().signal };
  const outcome = await runLine(line, { batch, ask, limits, random: () => 0, ...signals });
  expect(outcome).toBeUndefined();
  expect(asked).toBe(1);
});
