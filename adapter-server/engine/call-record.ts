/** Which sequences are in the native call under way, in shared memory: readable when the worker has died in it. */
import type { ModelRunner, StepRow } from "./types.ts";

/** `[count, sequence id, …]` */
export type CallRecord = Int32Array;

/** @param rowsMax sequences that one call may have */
export function createCallRecord(rowsMax: number): CallRecord {
  return new Int32Array(new SharedArrayBuffer(4 * (rowsMax + 1)));
}

/** The sequences of the call in which the worker died; none when it died outside of one. */
export function readCallRecord(record: CallRecord): number[] {
  return [...record.subarray(1, 1 + (record[0] ?? 0))];
}

/** The same runner, which writes down what it works on. */
export function recorded(
  runner: ModelRunner,
  record: CallRecord,
): Pick<ModelRunner, "run" | "statesOf"> {
  const write = (rows: readonly StepRow[]) => {
    for (let i = 0; i < rows.length; i++) record[i + 1] = rows[i]!.sequenceId;
    record[0] = rows.length;
  };
  return {
    statesOf: (row) => runner.statesOf?.(row),
    async run(decode, prefill) {
      write([...decode, ...prefill]);
      try {
        return await runner.run(decode, prefill);
      } finally {
        record[0] = 0;
      }
    },
  };
}
