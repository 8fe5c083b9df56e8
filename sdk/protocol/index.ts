/** The ground that all services and clients stand on: wire schemas, errors, ids, money, SSE framing. */
export * from "./admin.ts";
export * from "./catalog.ts";
export * from "./chat.ts";
export * from "./completions.ts";
export * from "./errors.ts";
export * from "./evals.ts";
export * from "./http.ts";
export * from "./ids.ts";
export * from "./model-name.ts";
export * from "./money.ts";
export * from "./sse.ts";
export * from "./usage.ts";
