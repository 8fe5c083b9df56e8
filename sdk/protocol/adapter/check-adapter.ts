/** Decides whether an adapter's two files may be served over a base model, and where each tensor goes. */
import type { BaseShape } from "../catalog.ts";
import { HubError } from "../errors.ts";
import { type AdapterConfig, type ModulePath, parseAdapterConfig } from "./peft-config.ts";
import {
  parseSafetensors,
  type SafetensorsFile,
  type SafetensorsLimits,
  shortName,
  type TensorEntry,
} from "./safetensors.ts";

/** One module's update, ΔW = scaling · B·A, as ranges of the weights file; see `readTensor`. */
export type CheckedPair = {
  /** `[rank, in]` */
  a: TensorEntry;
  /** `[out, rank]` */
  b: TensorEntry;
  rank: number;
  scaling: number;
  /** `[out]`, of DoRA alone: the length that each row of `W + ΔW` is brought to. */
  magnitude?: TensorEntry;
};

export type CheckedAdapter = {
  /** The largest rank of any module, which is what a slot must hold. */
  rank: number;
  /** Last names of the modules that have weights, such as `q_proj`, sorted. */
  targetModules: string[];
  /** `layers[layer][module]`, one entry for each layer of the base; modules without weights are absent. */
  layers: Record<string, CheckedPair>[];
  weights: SafetensorsFile;
};

export type CheckAdapterInput = {
  /** The bytes of `adapter_config.json`. */
  config: Uint8Array;
  /** The bytes of `adapter_model.safetensors`. */
  weights: Uint8Array;
  shape: BaseShape;
  /** Rows that one adapter slot holds. */
  rankMax: number;
  /** Names of the base; absent accepts whatever base the config claims. */
  baseNames?: readonly string[] | undefined;
  limits?: SafetensorsLimits | undefined;
};

/**
 * Checks everything that can be known without running the adapter. Nothing is left over: each tensor
 * belongs to one targeted module and each targeted module has its two tensors, with DoRA its three.
 * @throws HubError `invalid_adapter`, `unsupported_adapter`, `adapter_rank_too_large` or
 *   `adapter_base_mismatch`; messages name the tensor or the field
 */
export function checkAdapter(input: CheckAdapterInput): CheckedAdapter {
  const { shape, rankMax, baseNames, limits } = input;
  const config = parseAdapterConfig(input.config);
  if (baseNames) checkBaseName(config.baseModelName, baseNames);
  const weights = parseSafetensors(input.weights, limits);

  const unused = new Map(weights.tensors);
  const take: PairContext["take"] = (...names) => {
    const tensor = names.map((name) => unused.get(name)).find((one) => one !== undefined);
    if (!tensor) throw missingTensor(names[0], weights);
    unused.delete(tensor.name);
    return tensor;
  };
  const layers: Record<string, CheckedPair>[] = [];
  for (let layer = 0; layer < shape.layers; layer++) {
    const pairs: Record<string, CheckedPair> = {};
    for (const [module, size] of Object.entries(shape.modules)) {
      const at = modulePath(module, layer);
      if (config.targets(at)) pairs[module] = takePair(at, { size, config, rankMax, take });
    }
    layers.push(pairs);
  }
  const leftOver = [...unused.keys()];
  if (leftOver.length > 0) throw leftOverTensors(leftOver, shape);
  for (const tensor of weights.tensors.values()) checkValues(weights.bytes, tensor);

  const pairs = layers.flatMap((layer) => Object.values(layer));
  if (pairs.length === 0) {
    throw new HubError("invalid_adapter", "The adapter changes no module of this base model.");
  }
  return {
    rank: Math.max(...pairs.map((pair) => pair.rank)),
    targetModules: [...new Set(layers.flatMap((layer) => Object.keys(layer)))].sort(),
    layers,
    weights,
  };
}

/** Whether a tensor of an adapter's file is a magnitude of DoRA. */
export function isMagnitude(name: string): boolean {
  return name.endsWith(`.${magnitudeName}`) || name.endsWith(`.${magnitudeName}.weight`);
}

type PairContext = {
  size: { in: number; out: number };
  config: AdapterConfig;
  rankMax: number;
  /** The tensor of the first of these names that the file has. */
  take(...names: [string, ...string[]]): TensorEntry;
};

function takePair(at: ModulePath, { size, config, rankMax, take }: PairContext): CheckedPair {
  const rank = config.rankOf(at);
  if (rank > rankMax) {
    throw new HubError(
      "adapter_rank_too_large",
      `Module '${at.path}' has rank ${rank}; an adapter slot holds at most ${rankMax}.`,
      { details: { rank, rankMax } },
    );
  }
  const a = take(`${prefix}${at.path}.lora_A.weight`);
  const b = take(`${prefix}${at.path}.lora_B.weight`);
  checkShape(a, [rank, size.in]);
  checkShape(b, [size.out, rank]);
  const pair = { a, b, rank, scaling: config.scalingOf(at) };
  if (!config.hasMagnitudes) return pair;
  const name = `${prefix}${at.path}.${magnitudeName}`;
  const magnitude = take(name, `${name}.weight`);
  checkShape(magnitude, [size.out]);
  return { ...pair, magnitude };
}

/** `base_model_name_or_path` is a label: compared as text, or by its last part where it is a local path. */
function checkBaseName(claimed: string | undefined, baseNames: readonly string[]): void {
  if (claimed === undefined || baseNames.includes(claimed)) return;
  const isLocalPath = /^(?:[/.~\\]|[A-Za-z]:[\\/])/.test(claimed);
  const folder = claimed.split(/[/\\]/).filter(Boolean).at(-1);
  const isKnownFolder = baseNames.some((name) => name.split("/").at(-1) === folder);
  if (isLocalPath && isKnownFolder) return;
  throw new HubError(
    "adapter_base_mismatch",
    `The adapter was trained on '${claimed.slice(0, 200)}', which is not a known name of this base (${baseNames.join(", ")}).`,
    { param: "base_model_name_or_path" },
  );
}

function modulePath(module: string, layer: number): ModulePath {
  const parent = moduleParents.get(module);
  if (parent === undefined) {
    throw new HubError(
      "unsupported_adapter",
      `This base has a module '${module}', where no family that is served has one.`,
    );
  }
  return { path: `model.layers.${layer}.${parent}.${module}`, layer };
}

function checkShape(tensor: TensorEntry, expected: readonly number[]): void {
  const { name, shape, dtype } = tensor;
  if (shape.length !== expected.length || shape.some((n, i) => n !== expected[i])) {
    throw new HubError(
      "invalid_adapter",
      `Tensor '${name}' has shape [${shape.join(", ")}]; config and base need [${expected.join(", ")}].`,
    );
  }
  if (!Object.hasOwn(magnitudeBits, dtype)) {
    throw new HubError(
      "unsupported_adapter",
      `Tensor '${name}' has dtype ${dtype}; expected F32, F16 or BF16.`,
    );
  }
}

/** One NaN would spread through the batch, so values are checked before they are near another's request. */
function checkValues(file: Uint8Array, tensor: TensorEntry): void {
  const index =
    tensor.dtype === "F32"
      ? firstAbove32(alignedView(file, tensor, 4), magnitudeBits.F32)
      : firstAbove16(
          alignedView(file, tensor, 2),
          tensor.dtype === "F16" ? magnitudeBits.F16 : magnitudeBits.BF16,
        );
  if (index !== -1) {
    throw new HubError(
      "invalid_adapter",
      `Tensor '${tensor.name}' holds a value at index ${index} that is not finite or is beyond ±${magnitudeMax}.`,
    );
  }
}

/** The tensor's bytes where typed arrays may lie over them; copied only when the file puts them askew. */
function alignedView(file: Uint8Array, { begin, end }: TensorEntry, alignment: number): Uint8Array {
  const view = file.subarray(begin, end);
  return view.byteOffset % alignment === 0 ? view : new Uint8Array(view);
}

// Without the sign bit, IEEE numbers sort as integers do, and Inf and NaN come last.
function firstAbove32(raw: Uint8Array, limit: number): number {
  const bits = new Uint32Array(raw.buffer, raw.byteOffset, raw.byteLength / 4);
  for (let i = 0; i < bits.length; i++) if (((bits[i] ?? 0) & 0x7fffffff) > limit) return i;
  return -1;
}

function firstAbove16(raw: Uint8Array, limit: number): number {
  const bits = new Uint16Array(raw.buffer, raw.byteOffset, raw.byteLength / 2);
  for (let i = 0; i < bits.length; i++) if (((bits[i] ?? 0) & 0x7fff) > limit) return i;
  return -1;
}

function missingTensor(name: string, { tensors }: SafetensorsFile): HubError {
  return new HubError(
    "invalid_adapter",
    `The config targets a module whose tensor '${name}' is not among the file's ${tensors.size}.`,
  );
}

function leftOverTensors(names: readonly string[], shape: BaseShape): HubError {
  const shown = names.slice(0, 5).map((name) => `'${shortName(name)}'`);
  const more = names.length > shown.length ? ` and ${names.length - shown.length} more` : "";
  return new HubError(
    "invalid_adapter",
    `The config and this base (${shape.layers} layers with ${Object.keys(shape.modules).join(", ")}) have no place for ${shown.join(", ")}${more}.`,
    { details: { tensors: names.slice(0, 100).map(shortName) } },
  );
}

const prefix = "base_model.model.";
/** PEFT saves it so, and reads it with the ending `.weight` as well. */
const magnitudeName = "lora_magnitude_vector";
/** Where the families that are served keep each module inside a layer. */
const moduleParents: ReadonlyMap<string, string> = new Map([
  ["q_proj", "self_attn"],
  ["k_proj", "self_attn"],
  ["v_proj", "self_attn"],
  ["o_proj", "self_attn"],
  ["qkv_proj", "self_attn"],
  ["gate_proj", "mlp"],
  ["up_proj", "mlp"],
  ["down_proj", "mlp"],
  ["gate_up_proj", "mlp"],
]);
/** Trained adapters stay below 10; what is beyond this is damage or sabotage. */
const magnitudeMax = 10_000;
/** The bits of `magnitudeMax` in each dtype, rounded down. */
const magnitudeBits = { F32: 0x461c4000, F16: 0x70e2, BF16: 0x461c };
