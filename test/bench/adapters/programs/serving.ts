/** What the processes of the `merged` lane and the benchmark tell each other. */

export type FromServing = { type: "ready"; emptyBytes: number } | { type: "done" };
