/** The encoder's thread: takes texts of all requests together, in batches of like lengths. */
import { parentPort, workerData } from "node:worker_threads";
import ort from "onnxruntime-node";
import { invariant } from "../../sdk/protocol/errors.ts";
import { toWireError } from "../engine/messages.ts";
import { sessionOptions } from "../engine/session-options.ts";
import type { EncoderAnswer, EncoderTask, EncoderThreadOptions } from "./encoder.ts";
import { pool } from "./pool.ts";

invariant(parentPort, "this file is the entry of a worker thread");
const port = parentPort;
const { graph, threads, batchRowsMax, batchTokensMax }: EncoderThreadOptions = workerData;

type Row = { id: number; index: number; tokens: readonly number[] };

let waiting: Row[] = [];
let isRunning = false;
const session = ort.InferenceSession.create(graph.graphPath, await sessionOptions(threads));
session.then(
  () => tell({ type: "ready" }),
  (error) => tell({ type: "failed", error: toWireError(error) }),
);

port.on("message", (task: EncoderTask) => {
  if (task.type === "cancel") {
    waiting = waiting.filter(({ id }) => id !== task.id);
    return;
  }
  for (const [index, tokens] of task.rows.entries()) waiting.push({ id: task.id, index, tokens });
  void work();
});

async function work(): Promise<void> {
  if (isRunning) return;
  isRunning = true;
  while (waiting.length > 0) {
    for (const batch of takeBatches()) await compute(batch);
    // Lets messages in: who left is not computed.
    await new Promise((resolve) => setImmediate(resolve));
  }
  isRunning = false;
}

/** The rows that came first, cut into batches whose padding stays small. */
function takeBatches(): Row[][] {
  const rows = waiting.splice(0, batchRowsMax);
  rows.sort((a, b) => a.tokens.length - b.tokens.length);
  const batches: Row[][] = [];
  for (const row of rows) {
    const last = batches.at(-1);
    if (last && (last.length + 1) * row.tokens.length <= batchTokensMax) last.push(row);
    else batches.push([row]);
  }
  return batches;
}

/** Tells each row once: one that cannot be computed with the others is tried alone, and fails alone. */
async function compute(rows: readonly Row[]): Promise<void> {
  let failure: unknown;
  const vectors = await embed(rows.map(({ tokens }) => tokens)).catch((error: unknown) => {
    failure = error;
  });
  for (const [i, row] of rows.entries()) {
    const { id, index } = row;
    const vector = vectors?.[i];
    if (vector?.every(Number.isFinite)) tell({ type: "vector", id, index, vector });
    else if (rows.length > 1) await compute([row]);
    else {
      const error = failure ?? new Error("the hidden states are not numbers");
      tell({ type: "error", id, error: toWireError(error) });
    }
  }
}

async function embed(rows: readonly (readonly number[])[]): Promise<Float32Array[]> {
  const length = Math.max(...rows.map((tokens) => tokens.length));
  const shape = [rows.length, length];
  const feeds: Record<string, ort.Tensor> = {};
  for (const { name, elementType } of graph.inputs) {
    const values = rows.flatMap((tokens) => padded(name, tokens, length));
    feeds[name] =
      elementType === 6
        ? new ort.Tensor("int32", Int32Array.from(values), shape)
        : new ort.Tensor("int64", BigInt64Array.from(values, BigInt), shape);
  }
  const results = await (await session).run(feeds, [graph.output]);
  const states = results[graph.output]!;
  const width = states.dims[2]!;
  invariant(
    states.dims[0] === rows.length && states.dims[1] === length,
    "there is a state for each token",
  );
  const values = states.data as Float32Array;
  return rows.map((tokens, index) => {
    const own = values.subarray(index * length * width, (index + 1) * length * width);
    return pool(own, { pooling: graph.pooling, length: tokens.length, width });
  });
}

/** A row of one input; what stands in the padding, the mask hides. */
function padded(name: string, tokens: readonly number[], length: number): number[] {
  const of = (value: (token: number) => number) =>
    Array.from({ length }, (_, i) => (i < tokens.length ? value(tokens[i]!) : 0));
  switch (name) {
    case "input_ids":
      return of((token) => token);
    case "attention_mask":
      return of(() => 1);
    default:
      // A text alone is all of the first kind.
      return of(() => 0);
  }
}

function tell(answer: EncoderAnswer): void {
  port.postMessage(answer);
}
