/** OpenTelemetry's own environment variables, those that matter here. */
import { z } from "zod";
import type { Sampler } from "./trace.ts";

export type OtlpSettings = {
  tracesUrl: string | undefined;
  metricsUrl: string | undefined;
  headers: Record<string, string>;
  resource: Record<string, string>;
  sampler: Sampler;
  /** How long spans wait for company. */
  traceDelayMs: number;
  metricIntervalMs: number;
  timeoutMs: number;
};

/**
 * @returns undefined where nothing is to be exported
 * @throws ZodError naming the variable that is wrong
 * @see https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */
export function readOtlpSettings(
  env: Readonly<Record<string, string | undefined>>,
): OtlpSettings | undefined {
  const set = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ""));
  const read = variables.parse(set);
  const base = read.OTEL_EXPORTER_OTLP_ENDPOINT?.replace(/\/+$/, "");
  const urlOf = (own: string | undefined, path: string, exporter: string) =>
    exporter === "none" ? undefined : (own ?? (base && base + path));
  const tracesUrl = urlOf(
    read.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    "/v1/traces",
    read.OTEL_TRACES_EXPORTER,
  );
  const metricsUrl = urlOf(
    read.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    "/v1/metrics",
    read.OTEL_METRICS_EXPORTER,
  );
  if (read.OTEL_SDK_DISABLED === "true" || (!tracesUrl && !metricsUrl)) return undefined;
  return {
    tracesUrl,
    metricsUrl,
    headers: read.OTEL_EXPORTER_OTLP_HEADERS,
    resource: {
      ...read.OTEL_RESOURCE_ATTRIBUTES,
      "service.name":
        read.OTEL_SERVICE_NAME ?? read.OTEL_RESOURCE_ATTRIBUTES["service.name"] ?? "switchyard",
    },
    sampler: samplerOf(read.OTEL_TRACES_SAMPLER, read.OTEL_TRACES_SAMPLER_ARG),
    traceDelayMs: read.OTEL_BSP_SCHEDULE_DELAY,
    metricIntervalMs: read.OTEL_METRIC_EXPORT_INTERVAL,
    timeoutMs: read.OTEL_EXPORTER_OTLP_TIMEOUT,
  };
}

function samplerOf(name: string, share: number): Sampler {
  const isParents = name.startsWith("parentbased_");
  const kind = name.replace("parentbased_", "");
  return (traceId, parentSampled) => {
    if (isParents && parentSampled !== undefined) return parentSampled;
    if (kind !== "traceidratio") return kind === "always_on";
    // The last 7 bytes are random, so every process that sees the trace decides alike.
    return Number.parseInt(traceId.slice(18), 16) < share * 2 ** 56;
  };
}

/** `a=1,b=2`, percent-encoded. */
const pairs = z
  .string()
  .default("")
  .transform((text) =>
    Object.fromEntries(
      text.split(",").flatMap((pair) => {
        const [, name, value = ""] = /^\s*([^=\s]+)\s*=(.*)$/.exec(pair) ?? [];
        return name === undefined ? [] : [[name, decodeURIComponent(value.trim())]];
      }),
    ),
  );
const url = z.url({ protocol: /^https?$/ }).optional();
const ms = (byDefault: number) =>
  z.coerce
    .number()
    .int()
    .min(1)
    .max(2 ** 31 - 1)
    .default(byDefault);

const variables = z.object({
  OTEL_SDK_DISABLED: z.string().optional(),
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_HEADERS: pairs,
  OTEL_EXPORTER_OTLP_TIMEOUT: ms(10_000),
  OTEL_TRACES_EXPORTER: z.enum(["otlp", "none"]).default("otlp"),
  OTEL_METRICS_EXPORTER: z.enum(["otlp", "none"]).default("otlp"),
  OTEL_SERVICE_NAME: z.string().optional(),
  OTEL_RESOURCE_ATTRIBUTES: pairs,
  OTEL_TRACES_SAMPLER: z
    .enum(["always_on", "always_off", "traceidratio"].flatMap((it) => [it, `parentbased_${it}`]))
    .default("parentbased_always_on"),
  OTEL_TRACES_SAMPLER_ARG: z.coerce.number().min(0).max(1).default(1),
  OTEL_BSP_SCHEDULE_DELAY: ms(5_000),
  OTEL_METRIC_EXPORT_INTERVAL: ms(60_000),
});
