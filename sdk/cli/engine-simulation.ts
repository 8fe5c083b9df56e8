/** What `switchyard engine simulate` asks of an installation that has the engine, and what it gets. */

export type TokenCount =
  | { type: "fixed"; tokens: number }
  | { type: "uniform"; from: number; to: number }
  | { type: "exponential"; mean: number };

export type SimulationOptions = {
  seed: number;
  seconds: number;
  requestsPerSecond: number;
  clients: number;
  promptTokens: TokenCount;
  outputTokens: TokenCount;
  sharedTokens: number;
  choices: number;
  adapters: number;
  zipf: number;
  tenants: number;
  floodPerSecond: number;
  engine: {
    slots: number;
    sequencesMax: number;
    stepTokensMax: number;
    prefillChunkMax: number;
    promptMsMax: number;
    kvCacheTokens: number;
    waitingMax: number;
    waitMsMax: number;
    slotWaitMsMax: number;
    priorityAgeMs: number;
    prefixCache: boolean;
  };
  /** Milliseconds. */
  cost: { step: number; row: number; promptToken: number; adapter: number; load: number };
};

export type Percentiles = { p50: number; p95: number; p99: number; max: number };

export type SimulationReport = {
  seconds: number;
  requests: number;
  refused: Record<string, number>;
  outputTokensPerSecond: number;
  promptTokensPerSecond: number;
  prefixHitShare: number;
  busyShare: number;
  steps: number;
  rowsMean: number;
  tokensMean: number;
  cacheShareMean: number;
  cacheShareMax: number;
  preemptions: number;
  loads: number;
  groups: {
    name: string;
    requests: number;
    refused: number;
    outputTokensPerSecond: number;
    waitMs: Percentiles | undefined;
    firstTokenMs: Percentiles | undefined;
    interTokenMs: Percentiles | undefined;
  }[];
  timeline: { partMs: number; waiting: number[]; running: number[] };
};

/**
 * @param onProgress the share that is done, 0 to 1
 * @throws CommandError that names the option
 */
export type Simulate = (
  options: SimulationOptions,
  onProgress: (done: number) => void,
) => Promise<SimulationReport>;
