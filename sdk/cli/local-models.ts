/** What the command line can do with the models of this machine, where the servers are installed. */

/** Tensors that do one kind of work and are stored in one way. */
export type TensorGroup = {
  group: string;
  format: string;
  tensors: number;
  parameters: number;
  sizeBytes: number;
};

/** How an import's weights were rounded, and what that costs. */
export type Quantization = {
  reason: string;
  matrices: { name: string; format: string; error: number }[];
  candidates: { name: string; error: number; relativeTime: number }[];
  measuredRows: number[];
  speeds: { in: number; out: number; format: string; ms: number[] }[];
  cost: QuantizationCost;
  singleStream?: SingleStream | undefined;
};

export type QuantizationCost = { positions: number; klMean: number; kl99: number; top1: number };

/** Weights for steps in which a single sequence decodes, where they were asked for: whether the import has them. */
export type SingleStream = {
  format: string;
  isChosen: boolean;
  reason: string;
  cost?: QuantizationCost | undefined;
};

export type ListedImport = {
  digest: string;
  source: string | undefined;
  format: string | undefined;
  parameters: number | undefined;
  sizeBytes: number;
  importedAt: string | undefined;
  /** Processes that serve it now. */
  usedBy: string[];
};

export type ListedSource = {
  /** As other commands take it. */
  name: string;
  revisions: string[];
  sizeBytes: number;
  licence: string | undefined;
  pulledAt: string;
};

export type ListedEncoder = Pick<
  ListedImport,
  "digest" | "source" | "sizeBytes" | "importedAt" | "usedBy"
>;

export type LocalLibrary = {
  imports: ListedImport[];
  encoders: ListedEncoder[];
  sources: ListedSource[];
  unfinished: { repo: string; sizeBytes: number }[];
};

export type ModelFacts = {
  name: string;
  source: string | undefined;
  architecture: string | undefined;
  parameters: number | undefined;
  contextLength: number | undefined;
  layers: number | undefined;
  hiddenSize: number | undefined;
  vocabSize: number | undefined;
  tokenizer: { type: string; tokens: number } | undefined;
  hasChatTemplate: boolean | undefined;
  licence: string | undefined;
  stored: TensorGroup[] | undefined;
  imports: {
    digest: string;
    folder: string;
    sizeBytes: number;
    format: string | undefined;
    importedAt: string | undefined;
    groups: TensorGroup[];
    quantization: Quantization | undefined;
    usedBy: string[];
  }[];
};

export type ImportedFacts = {
  digest: string;
  format: string;
  singleStream?: SingleStream;
  sizeBytes: number;
  folder: string;
};

export type Verdict = {
  what: string;
  type: "import" | "encoder" | "source";
  result: "ok" | "damaged" | "unknown";
  problems: string[];
};

export type Removal = { what: string; folder: string; sizeBytes: number }[];

export type PullPlan = {
  name: string;
  commit: string;
  files: { name: string; sizeBytes: number }[];
  totalBytes: number;
  /** What an earlier pull has left of it. */
  hereBytes: number;
  licence: string | undefined;
  /** What will not fit, and what to do about it. */
  warning: string | undefined;
};

export type Pulled = {
  name: string;
  commit: string;
  folder: string;
  files: { name: string; sizeBytes: number; sha256: string }[];
  sizeBytes: number;
  /** Nothing had to be asked for. */
  wasHere: boolean;
};

/** The library of a data folder. It is loaded when a command needs it, so that others start in a moment. */
export type OpenLocalModels = (env: NodeJS.ProcessEnv) => Promise<LocalModels>;

/** @throws CommandError */
export type LocalModels = {
  list(): Promise<LocalLibrary>;
  inspect(model: string): Promise<ModelFacts>;
  import(options: {
    source: string;
    format: string;
    singleStream: string | undefined;
    force: boolean;
    onProgress: (done: number) => void;
  }): Promise<ImportedFacts>;
  /** Fetches from a hub: the one thing here that uses the network. */
  pull(options: {
    model: string;
    file: string | undefined;
    include: readonly string[];
    onPlan: (plan: PullPlan) => void;
    onProgress: (done: number, total: number) => void;
    /** Told of what failed and is tried again. */
    onRetry: (message: string) => void;
  }): Promise<Pulled>;
  verify(
    model: string | undefined,
    onProgress: (done: number, total: number) => void,
  ): Promise<Verdict[]>;
  planRemoval(model: string): Promise<Removal>;
  remove(removal: Removal): Promise<void>;
};
