/** Turns an adapter's PEFT `adapter_config.json` into the few facts that serving needs. */
import { z } from "zod";
import { HubError } from "../errors.ts";
import {
  compilePattern,
  compileTailPattern,
  type ModulePattern,
  ModulePatternError,
} from "./module-pattern.ts";
import { parseStrictJson, StrictJsonError } from "./strict-json.ts";

/** ΔW = scaling · B·A for each targeted module; a module is named by its path, `model.layers.0.mlp.up_proj`. */
export type AdapterConfig = {
  /** Under which name its base was known where it was trained; a claim, never opened or fetched. */
  baseModelName: string | undefined;
  targets(module: ModulePath): boolean;
  rankOf(module: ModulePath): number;
  scalingOf(module: ModulePath): number;
  /** DoRA: each output of a targeted module is brought to a magnitude of its own. */
  hasMagnitudes: boolean;
};

export type ModulePath = { path: string; layer: number };

/**
 * @param file the bytes of `adapter_config.json`; untrusted
 * @throws HubError `invalid_adapter` for what PEFT could not have written, `unsupported_adapter` for
 *   options that change the numbers and that are not served; both name the field
 * @see LoRA, arXiv:2106.09685 §4.1; rsLoRA, arXiv:2312.03732; DoRA, arXiv:2402.09353 §4.1
 */
export function parseAdapterConfig(file: Uint8Array): AdapterConfig {
  const raw = parseJsonObject(file);
  refuseUnservedKind(raw);
  refuseUnservedOptions(raw);
  const parsed = peftConfig.safeParse(raw);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const field = String(issue?.path[0] ?? "");
    throw invalid(`'${issue?.path.join(".")}' is wrong: ${issue?.message}`, field);
  }
  const config = parsed.data;
  const ranks = compileKeys("rank_pattern", config.rank_pattern ?? {});
  const alphas = compileKeys("alpha_pattern", config.alpha_pattern ?? {});
  const rankOf = ({ path }: ModulePath) => ranks(path) ?? config.r;
  return {
    baseModelName: config.base_model_name_or_path || undefined,
    targets: compileTargets(config),
    rankOf,
    scalingOf(module) {
      const alpha = alphas(module.path) ?? config.lora_alpha;
      const rank = rankOf(module);
      // rsLoRA divides by √rank so that a large rank does not shrink the update to nothing.
      return alpha / (config.use_rslora ? Math.sqrt(rank) : rank);
    },
    hasMagnitudes: config.use_dora ?? false,
  };
}

function parseJsonObject(file: Uint8Array): Record<string, unknown> {
  if (file.length > configBytesMax) throw invalid(`is larger than ${configBytesMax} bytes`);
  let value: unknown;
  try {
    // `rank_pattern` is the deepest option that is served; what is refused may go one deeper.
    value = parseStrictJson(file, 4);
  } catch (error) {
    if (error instanceof StrictJsonError) throw invalid(error.message);
    throw error;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("is not a JSON object");
  }
  return value as Record<string, unknown>;
}

function refuseUnservedKind(raw: Record<string, unknown>): void {
  const { peft_type: peftType, task_type: taskType } = raw;
  if (typeof peftType !== "string")
    throw invalid("has no 'peft_type'; expected \"LORA\"", "peft_type");
  if (peftType !== "LORA") throw unsupported("peft_type", peftType, '"LORA"');
  if (taskType !== undefined && taskType !== null && taskType !== "CAUSAL_LM") {
    throw unsupported("task_type", taskType, '"CAUSAL_LM"');
  }
}

/**
 * Options that change the numbers are refused unless they are off. A field that we do not know may be
 * such an option of a later PEFT, so it has to be off as well.
 */
function refuseUnservedOptions(raw: Record<string, unknown>): void {
  for (const [field, value] of Object.entries(raw)) {
    if (harmlessFields.has(field) || Object.hasOwn(peftConfig.shape, field)) continue;
    const isOff = value === null || value === false || isEmptyDefault(field, value);
    if (!isOff) throw unsupported(field, value, "it to be absent or null");
  }
  const { bias, init_lora_weights: init } = raw;
  if (bias === "all" || bias === "lora_only") throw unsupported("bias", bias, '"none"');
  if (typeof init === "string" && !servedInits.has(init)) {
    throw unsupported("init_lora_weights", init, "PEFT's conversion to plain LoRA when saving");
  }
}

/** PEFT's defaults that are empty rather than null; an empty `…_config` of others switches them on. */
function isEmptyDefault(field: string, value: unknown): boolean {
  if (field === "modules_to_save") return Array.isArray(value) && value.length === 0;
  return field === "loftq_config" && JSON.stringify(value) === "{}";
}

/** PEFT's `check_target_module_exists`: a string matches whole paths, a list names or dotted tails. */
function compileTargets(config: PeftConfig): (module: ModulePath) => boolean {
  const included = compileNames("target_modules", config.target_modules);
  const excluded = compileNames("exclude_modules", config.exclude_modules ?? []);
  const layers =
    typeof config.layers_to_transform === "number"
      ? [config.layers_to_transform]
      : (config.layers_to_transform ?? []);
  // PEFT looks at layers only for names from a list that are not whole paths.
  const named = new Set(Array.isArray(config.target_modules) ? config.target_modules : []);
  const anyLayer = layers.length === 0 || typeof config.target_modules === "string";
  const layerSet = new Set(layers);
  return ({ path, layer }) =>
    !excluded(path) && included(path) && (anyLayer || named.has(path) || layerSet.has(layer));
}

function compileNames(field: string, names: string | readonly string[]): ModulePattern {
  if (names === "all-linear") return () => true;
  if (typeof names === "string") return compileOrThrow(field, names, compilePattern);
  return (path) => names.some((name) => path === name || path.endsWith(`.${name}`));
}

/** The value of the first key that matches, in the file's order, as PEFT's `get_pattern_key` finds it. */
function compileKeys(
  field: string,
  table: Record<string, number>,
): (path: string) => number | undefined {
  const keys = Object.keys(table);
  const patternLength = keys.filter((key) => /[^A-Za-z0-9_.]/.test(key)).join("").length;
  if (patternLength > patternsLengthMax) {
    throw invalid(`has more than ${patternsLengthMax} characters of patterns in '${field}'`, field);
  }
  const tests = Object.entries(table).map(([key, value]) => ({
    value,
    matches: compileOrThrow(field, key, compileTailPattern),
  }));
  return (path) => tests.find(({ matches }) => matches(path))?.value;
}

function compileOrThrow(
  field: string,
  pattern: string,
  compile: (pattern: string) => ModulePattern,
): ModulePattern {
  try {
    return compile(pattern);
  } catch (error) {
    if (!(error instanceof ModulePatternError)) throw error;
    throw new HubError(
      "unsupported_adapter",
      `adapter_config.json: a pattern of '${field}' ${error.message}. Write the modules' names as a list instead.`,
      { param: field },
    );
  }
}

function invalid(problem: string, param?: string): HubError {
  return new HubError("invalid_adapter", `adapter_config.json ${problem}.`, { param });
}

function unsupported(field: string, value: unknown, expected: string): HubError {
  const name = field.slice(0, 80);
  const shown = JSON.stringify(value)?.slice(0, 80);
  return new HubError(
    "unsupported_adapter",
    `adapter_config.json sets '${name}' to ${shown}, which is not served; expected ${expected}.`,
    { param: name },
  );
}

/** Values that only matter while training, or nowhere. */
const harmlessFields = new Set([
  "auto_mapping",
  "ensure_weight_tying",
  "fan_in_fan_out",
  "inference_mode",
  "lora_dropout",
  "megatron_core",
  "peft_type",
  "peft_version",
  "qalora_group_size",
  "revision",
  "task_type",
]);
/** Other ways to begin training change the base model as well. */
const servedInits = new Set(["gaussian", "orthogonal"]);
const configBytesMax = 2 ** 20;
const patternsLengthMax = 2048;

const moduleName = z.string().regex(/^[A-Za-z0-9_.]{1,128}$/, "expected a module's name");
const moduleNames = z.union([z.string().min(1).max(512), z.array(moduleName).max(4096)]);
const rank = z.int().positive();
const alpha = z.number().positive().max(65_536);
const patternTable = <V extends z.ZodType<number>>(value: V) =>
  z.record(z.string().min(1).max(512), value).refine((table) => Object.keys(table).length <= 4096);

/** Absent fields have PEFT's defaults. */
const peftConfig = z.object({
  base_model_name_or_path: z.string().max(1024).nullish(),
  r: rank.default(8),
  lora_alpha: alpha.default(8),
  use_rslora: z.boolean().default(false),
  use_dora: z.boolean().nullish(),
  target_modules: moduleNames.refine((names) => names.length > 0, "expected at least one module"),
  exclude_modules: moduleNames.nullish(),
  rank_pattern: patternTable(rank).nullish(),
  alpha_pattern: patternTable(alpha).nullish(),
  layers_to_transform: z
    .union([z.int().nonnegative(), z.array(z.int().nonnegative()).max(4096)])
    .nullish(),
  // All served families keep their layers in `model.layers`.
  layers_pattern: z.union([z.literal("layers"), z.array(z.literal("layers")).max(1)]).nullish(),
  bias: z.literal("none").default("none"),
  init_lora_weights: z.union([z.boolean(), z.string()]).default(true),
});
type PeftConfig = z.infer<typeof peftConfig>;
