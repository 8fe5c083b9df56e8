/** The shape of `switchyard.yaml`: upstreams, models with prices, the embedded engine, routes, limits. */
import { z } from "zod";
import { singleStream } from "../../adapter-server/config.ts";
import { modelFormats } from "../../adapter-server/models/import-model.ts";
import { gatewayLimits } from "../../gateway/config.ts";
import { meteringLimits } from "../../gateway/metering/config.ts";
import { signInSettings } from "../../gateway/people/settings.ts";
import { upstreamSettings } from "../../gateway/providers/settings.ts";
import { budget, fallbackOn, rateLimits, taskPolicy } from "../../sdk/protocol/catalog.ts";
import { adapterName, baseName } from "../../sdk/protocol/model-name.ts";

/** Dollars, quoted so that no float ever holds money: "0.15". As many places as leave a whole number of pico-dollars for one. */
function usdPer(what: string, placesMax: number) {
  return z
    .string('write the price in quotes, such as "0.15"')
    .regex(
      new RegExp(`^\\d{1,9}(\\.\\d{1,${placesMax}})?$`),
      `expected dollars for ${what} with at most ${placesMax} decimal places, such as "0.15"`,
    );
}
const usdPerMillion = usdPer("a million tokens", 6).optional();

const meterPrices = z.strictObject({
  input: usdPerMillion,
  output: usdPerMillion,
  cache_read: usdPerMillion,
  cache_write: usdPerMillion,
  reasoning: usdPerMillion,
  input_audio: usdPerMillion,
  input_image: usdPerMillion,
  cache_read_audio: usdPerMillion,
  cache_read_image: usdPerMillion,
  output_audio: usdPerMillion,
  output_image: usdPerMillion,
  /** For providers that bill them in place of tokens: an image, a second, a million characters. */
  image: usdPer("an image", 12).optional(),
  audio_second: usdPer("a second of audio", 9).optional(),
  characters: usdPer("a million characters", 6).optional(),
});

/**
 * What is not priced stays unknown and its use `unpriced`; `reasoning` defaults to `output`, and for the
 * embedded engine and other adapter-servers `cache_read` to `input`.
 */
const prices = meterPrices
  .extend({
    /** For requests of batches; what is left out costs them what it costs others. */
    batch: meterPrices.optional(),
    source: z.string().max(512).default("switchyard.yaml"),
    validFrom: z.iso.datetime({ offset: true }).optional(),
  })
  .superRefine((given, { addIssue }) => {
    if (otherWays.some((meter) => given[meter] !== undefined)) return;
    for (const path of ["input", "output"] as const) {
      if (given[path] === undefined) {
        addIssue({ code: "custom", path: [path], message: "expected a price" });
      }
    }
  });
/** With one of these a model needs no price for `input` and `output`. */
const otherWays = ["input_audio", "output_image", "image", "audio_second", "characters"] as const;
export type ModelPrices = z.infer<typeof prices>;

/** The file itself never holds a credential: it names an environment variable. */
const upstream = upstreamSettings
  .refine(({ name }) => name !== "embedded", {
    path: ["name"],
    message: "is the engine of this process",
  })
  .refine(({ apiKey }) => apiKey === undefined, { path: ["apiKey"], message: "no such setting" });

const remoteModel = z.strictObject({
  id: baseName,
  upstream: z.string(),
  upstreamModel: z.string().min(1).max(256).optional(),
  contextLength: z.int().positive().optional(),
  maxOutputTokens: z.int().positive().optional(),
  tokenizer: z.enum(["o200k_base", "cl100k_base"]).optional(),
  ownedBy: z.string().max(64).optional(),
  prices: prices.optional(),
});

const embeddedFields = z.strictObject({
  /** Name of the base model to clients. */
  id: baseName,
  /** A Hugging Face folder or a GGUF file, relative to the settings file. */
  folder: z.string().min(1).optional(),
  /** Instead of a folder, what `switchyard models pull` has brought; a start downloads nothing. */
  model: z
    .string()
    .regex(/^hf:/, 'expected what was pulled, such as "hf:owner/name@main"; a path is `folder`')
    .optional(),
  format: z.enum(modelFormats).default("auto"),
  /** Weights beside the others, quicker and less exact, for steps in which a single sequence decodes. */
  singleStream,
  adapterSlots: z.int().min(1).max(64).default(8),
  adapterRankMax: z.int().min(1).max(128).default(32),
  /** Tokens that all sequences together may keep in the KV cache. */
  kvCacheTokens: z.int().min(256).default(16384),
  /** `int8` keeps four times as many tokens in the same memory, at a small loss. */
  kvCacheType: z.enum(["f32", "int8"]).default("f32"),
  /** Whether prompts of one project share what is computed of them where they begin alike. */
  prefixCache: z.boolean().default(true),
  /** Tokens that one step decodes, guessed ones included, up to which tokens are guessed; 0 guesses none. */
  speculationTokensMax: z.int().min(0).max(256).default(16),
  threads: z.int().min(1).max(256).optional(),
  /** How the model writes tool calls, where its chat template does not tell. */
  toolFormat: z.enum(["hermes", "llama3_json", "mistral"]).optional(),
  prices: prices.optional(),
  /** Pushed for the first project, shared with all, when the registry does not have them yet. */
  adapters: z
    .array(
      z.strictObject({
        name: adapterName,
        folder: z.string().min(1),
        /** `at-start` has it in the engine's memory before the first request, `pinned` for good. */
        load: z.enum(["on-demand", "at-start", "pinned"]).default("on-demand"),
      }),
    )
    .max(64)
    .default([]),
});

const embedded = embeddedFields
  .refine(({ folder, model }) => (folder === undefined) !== (model === undefined), {
    path: ["folder"],
    message: "expected either `folder` or `model`",
  })
  .refine(
    ({ adapters, adapterSlots }) =>
      adapters.filter(({ load }) => load === "pinned").length < adapterSlots,
    {
      path: ["adapters"],
      message: "as many are pinned as there are slots (`adapterSlots`); one has to stay for others",
    },
  );

const route = z.strictObject({
  name: baseName,
  defaultModel: z.string().min(1),
  fallbacks: z.array(z.string()).max(8).default([]),
  /** Whom to ask after a failure of that kind, in place of the models that are left. */
  fallbackOn: fallbackOn.optional(),
  tasks: z
    .array(taskPolicy.extend({ rules: taskPolicy.shape.rules.default([]) }))
    .max(64)
    .default([]),
});

export const settings = z.strictObject({
  host: z.string().min(1).default("127.0.0.1"),
  port: z.int().min(0).max(65535).default(8787),
  upstreams: z.array(upstream).max(64).default([]),
  models: z.array(remoteModel).max(1024).default([]),
  /** `null` runs a gateway without an engine of its own. */
  embedded: embedded.nullable().default(null),
  routes: z.array(route).max(256).default([]),
  /** The first project's limits and budget; later changes through the API stand. */
  firstProject: z
    .strictObject({ limits: rateLimits.default({}), budget: budget.optional() })
    .default({ limits: {} }),
  /** Where people log in; absent knows keys alone. */
  signIn: signInSettings.optional(),
  /** Bounds of the gateway: bodies, timeouts, breakers, requests at one time. `docs/limits.md` lists them. */
  gateway: gatewayLimits.prefault({}),
  /** Bounds of metering: the spool, leases, what holds while Redis is away. */
  metering: meteringLimits.prefault({}),
});
export type Settings = z.infer<typeof settings>;
