/** Reads `quantization_config` of config.json: how the checkpoint's matrices are stored, where we can read it. */
import { z } from "zod";
import { awqLayout } from "./awq.ts";
import { compressedLayout } from "./compressed-tensors.ts";
import { gptqLayout } from "./gptq.ts";
import { type PackedLayout, refuse } from "./packed-matrix.ts";

export type GptqSettings = {
  bits: 4 | 8;
  /** Inputs of one group; Infinity is all of them. */
  groupSize: number;
  /** Zero points are stored less one. */
  zerosLessOne: boolean;
  /** Groups are no runs of inputs, so each matrix has to name them. */
  scattered: boolean;
};

/** AWQ has 4 bits, and a zero point for each group. */
export type AwqSettings = Pick<GptqSettings, "groupSize">;

export type CompressedSettings = Pick<GptqSettings, "bits" | "groupSize"> & {
  /** All zero points are the middle level, and none are stored. */
  symmetric: boolean;
};

/**
 * @param config the value in config.json; untrusted
 * @returns undefined when the checkpoint is not quantized
 * @throws HubError `unsupported_model` that names the method or option which we do not read
 */
export function quantizedLayout(config: unknown): PackedLayout | undefined {
  if (config === undefined || config === null) return undefined;
  const { quant_method: method } = parse(methodConfig, config);
  switch (method) {
    case "gptq":
      return gptqLayout(gptqSettings(config));
    case "awq":
      return awqLayout(awqSettings(config));
    case "compressed-tensors":
      return compressedLayout(compressedSettings(config));
    default:
      return refuse(
        `config.json: weights quantized by '${shown(method)}' are not read; gptq, awq and compressed-tensors are.`,
      );
  }
}

function gptqSettings(config: unknown): GptqSettings {
  const data = parse(gptqConfig, config);
  const format = data.is_marlin_format ? "marlin" : (data.checkpoint_format ?? data.format);
  if (format !== "gptq" && format !== "gptq_v2") {
    refuse(`config.json: the GPTQ format '${shown(format)}' is not read; gptq and gptq_v2 are.`);
  }
  // Keys are regular expressions, which are not run; "-:" leaves matrices out, and the tensors tell which.
  const override = Object.keys(data.dynamic ?? {}).find((key) => !key.startsWith("-:"));
  if (override !== undefined) {
    refuse(`config.json: GPTQ settings of single matrices ('${shown(override)}') are not read.`);
  }
  for (const option of ["rotation", "adapter"] as const) {
    if (data[option] != null) refuse(`config.json: the GPTQ option '${option}' is not computed.`);
  }
  return {
    bits: eitherOf([4, 8], data.bits, "GPTQ"),
    groupSize: toGroupSize(data.group_size),
    zerosLessOne: format === "gptq",
    scattered: data.desc_act,
  };
}

function awqSettings(config: unknown): AwqSettings {
  const data = parse(awqConfig, config);
  const version = data.backend === "llm-awq" ? "llm-awq" : data.version.toLowerCase();
  if (version !== "gemm")
    refuse(`config.json: the AWQ version '${shown(version)}' is not read; gemm is.`);
  eitherOf([4], data.bits ?? data.w_bit ?? 4, "AWQ");
  if (!data.zero_point) refuse("config.json: AWQ without zero points is not read.");
  return { groupSize: toGroupSize(data.group_size ?? data.q_group_size ?? 128) };
}

function compressedSettings(config: unknown): CompressedSettings {
  const data = parse(compressedConfig, config);
  const groups = Object.values(data.config_groups);
  const formats = [data.format, ...groups.map(({ format }) => format ?? data.format)];
  const other = formats.find((format) => format !== "pack-quantized");
  if (other !== undefined) {
    refuse(
      `config.json: the compressed-tensors format '${shown(other)}' is not read; pack-quantized is.`,
    );
  }
  const [group, ...more] = groups;
  if (!group || more.length > 0) {
    return refuse(
      `config.json: compressed-tensors with ${groups.length} groups of settings is not read; one is.`,
    );
  }
  const { num_bits, symmetric, strategy, group_size, actorder } = group.weights;
  if (actorder === "group" || actorder === "dynamic") {
    refuse(`config.json: compressed-tensors in activation order '${actorder}' is not read.`);
  }
  if (strategy === "group" && group_size == null)
    refuse("config.json: strategy 'group' needs a group_size.");
  return {
    bits: eitherOf([4, 8], num_bits, "compressed-tensors"),
    groupSize: strategy === "group" ? toGroupSize(group_size ?? -1) : Number.POSITIVE_INFINITY,
    symmetric,
  };
}

function toGroupSize(groupSize: number): number {
  return groupSize === -1 ? Number.POSITIVE_INFINITY : groupSize;
}

function eitherOf<T extends number>(known: readonly T[], bits: number, method: string): T {
  const found = known.find((each) => each === bits);
  return (
    found ??
    refuse(`config.json: ${method} with ${bits} bits is not read; ${known.join(" and ")} are.`)
  );
}

function parse<S extends z.ZodType>(schema: S, config: unknown): z.infer<S> {
  const parsed = schema.safeParse(config);
  return parsed.success
    ? parsed.data
    : refuse(`config.json: quantization_config: ${z.prettifyError(parsed.error)}`);
}

function shown(text: string): string {
  return text.slice(0, 64);
}

const methodConfig = z.object({ quant_method: z.string() });
const groupSize = z.union([z.literal(-1), z.int().positive()]);

/** As AutoGPTQ and GPTQModel write it; the defaults are transformers'. */
const gptqConfig = z.object({
  bits: z.int(),
  group_size: groupSize.default(128),
  desc_act: z.boolean().default(false),
  checkpoint_format: z.string().nullish(),
  format: z.string().default("gptq"),
  is_marlin_format: z.boolean().default(false),
  pack_dtype: z.literal("int32").default("int32"),
  dynamic: z.record(z.string(), z.unknown()).nullish(),
  rotation: z.unknown().optional(),
  adapter: z.unknown().optional(),
});

const awqConfig = z.object({
  bits: z.int().nullish(),
  w_bit: z.int().nullish(),
  group_size: groupSize.nullish(),
  q_group_size: groupSize.nullish(),
  zero_point: z.boolean().default(true),
  version: z.string().default("gemm"),
  backend: z.string().nullish(),
});

/** Nothing but weights may be quantized: what is done to activations would change the numbers. */
const compressedConfig = z.object({
  format: z.string(),
  config_groups: z.record(
    z.string(),
    z.object({
      format: z.string().nullish(),
      weights: z.object({
        num_bits: z.int(),
        type: z.literal("int").default("int"),
        symmetric: z.boolean().default(true),
        strategy: z.enum(["group", "channel"]),
        group_size: groupSize.nullish(),
        actorder: z.string().nullish(),
        dynamic: z.literal(false).default(false),
      }),
      input_activations: z.null().optional(),
      output_activations: z.null().optional(),
    }),
  ),
  kv_cache_scheme: z.null().optional(),
  sparsity_config: z.looseObject({ format: z.literal("dense").default("dense") }).nullish(),
  transform_config: z.strictObject({}).nullish(),
});
