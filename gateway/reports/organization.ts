/** OpenAI's `/v1/organization/costs` and `/v1/organization/usage/…`, in their exact shapes. */
import type postgres from "postgres";
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import {
  inputMeters,
  type Meter,
  outputMeters,
  type TokenMeter,
  type UnitMeter,
} from "../../sdk/protocol/usage.ts";
import { unansweredAccount } from "../ledger/record.ts";
import type { FormatName } from "../providers/format.ts";
import { list, readQuery, single, truth, wholeNumber } from "./query.ts";
import { all, at, columnList, count, type Fragment } from "./sql.ts";

type Results = Record<string, unknown>[];
export type BucketPage = {
  object: "page";
  data: { object: "bucket"; start_time: number; end_time: number; results: Results }[];
  has_more: boolean;
  next_page: string | null;
};

/** Cached tokens, cache writes and reasoning are parts of input and output, as OpenAI counts them. */
export async function usageOfCompletions(
  sql: postgres.Sql,
  url: string,
  nowMs: number,
): Promise<BucketPage> {
  const query = parseOrThrow(usageQuery, readQuery(url));
  const columns: Record<(typeof usageGroups)[number], Fragment> = {
    ...whoseColumns(sql),
    batch: sql`(batch_id is not null)`,
    service_tier: sql`null::text`,
    api_source: sql`'unlabeled'`,
  };
  const window = readWindow(query, nowMs);
  const others = Object.values(kinds).flatMap(({ formats }) => [...formats.keys()]);
  const conditions = [
    // Rows from before formats were kept are counted here, as they were then.
    sql`(format is null or format <> all(${others}::text[]))`,
    ...ofUsage(sql, { query, window, columns }),
    ...(query.batch === undefined ? [] : [sql`${columns.batch} = ${query.batch}::boolean`]),
  ];
  const keys = keyColumns(sql, window, query.group_by, columns);
  const rows = await sql`
    select ${columnList(sql, keys)}, count(*) as requests,
      ${summed(sql, ["input", "input_audio", "input_image"])} as uncached,
      ${summed(sql, ["cache_read", "cache_read_audio", "cache_read_image"])} as cached,
      ${summed(sql, ["cache_write"])} as written, ${summed(sql, outputMeters)} as output,
      ${summed(sql, ["input_audio", "cache_read_audio"])} as heard,
      ${summed(sql, ["output_audio"])} as spoken
    from billing.requests where ${all(sql, conditions)}
    group by ${ordinals(sql, keys.length)} order by requests desc`;
  return toPage(window, rows, (row) => ({
    object: "organization.usage.completions.result",
    input_tokens: Number(row.uncached) + Number(row.cached) + Number(row.written),
    input_cached_tokens: Number(row.cached),
    input_cache_write_tokens: Number(row.written),
    input_uncached_tokens: Number(row.uncached),
    input_audio_tokens: Number(row.heard),
    output_tokens: Number(row.output),
    output_audio_tokens: Number(row.spoken),
    num_model_requests: Number(row.requests),
    project_id: row.project_id ?? null,
    user_id: row.user_id ?? null,
    api_key_id: row.api_key_id ?? null,
    model: row.model ?? null,
    batch: row.batch ?? null,
    service_tier: row.service_tier ?? null,
    api_source: row.api_source ?? null,
  }));
}

export type UsageKind = keyof typeof kinds;

/** What is counted in other units than a chat's tokens, by what was asked for. */
export async function usageOfKind(
  sql: postgres.Sql,
  url: string,
  { kind, nowMs }: { kind: UsageKind; nowMs: number },
): Promise<BucketPage> {
  const { formats, unit, sum } = kinds[kind];
  const query: UsageOfKindQuery = parseOrThrow(
    kind === "images" ? imagesQuery : kindQuery,
    readQuery(url),
  );
  const asked = sql`format = any(${[...formats.keys()]}::text[])`;
  const sources = [...formats].map(([format, source]) => sql`when ${format} then ${source}::text`);
  const columns: Record<(typeof imageGroups)[number], Fragment> = {
    ...whoseColumns(sql),
    // Sizes are not kept.
    size: sql`null::text`,
    source: sources.reduce((before, next) => sql`${before} ${next}`, sql`case format`),
  };
  columns.source = sql`${columns.source} end`;
  const window = readWindow(query, nowMs);
  const conditions = [
    asked,
    ...ofUsage(sql, { query, window, columns }),
    ...oneOf(sql, columns.source, query.sources ?? []),
  ];
  const keys = keyColumns(sql, window, query.group_by, columns);
  const rows = await sql`
    select ${columnList(sql, keys)}, count(*) as requests,
      ${sum.map((meter) => sql`coalesce(sum(${sql(meter)}), 0)`).reduce((all, next) => sql`${all} + ${next}`)} as used
    from billing.requests where ${all(sql, conditions)}
    group by ${ordinals(sql, keys.length)} order by requests desc`;
  return toPage(window, rows, (row) => ({
    object: `organization.usage.${kind}.result`,
    [unit]: unit === "seconds" ? Math.round(Number(row.used) / 1000) : Number(row.used),
    num_model_requests: Number(row.requests),
    project_id: row.project_id ?? null,
    user_id: row.user_id ?? null,
    api_key_id: row.api_key_id ?? null,
    model: row.model ?? null,
    ...(kind === "images" && { size: row.size ?? null, source: row.source ?? null }),
  }));
}

type UsageOfKindQuery = Omit<z.infer<typeof imagesQuery>, "sources"> & { sources?: string[] };

function whoseColumns(sql: postgres.Sql) {
  return {
    project_id: sql`project_id`,
    user_id: userId(sql),
    api_key_id: sql`key_id`,
    model: sql`case when adapter is null then model else model || ':' || adapter end`,
  };
}

function ofUsage(
  sql: postgres.Sql,
  {
    query,
    window,
    columns,
  }: {
    query: Omit<z.infer<typeof kindQuery>, "group_by">;
    window: Window;
    columns: ReturnType<typeof whoseColumns>;
  },
): Fragment[] {
  return [
    sql`pricing <> 'unused'`,
    ...within(sql, window),
    ...oneOf(sql, columns.project_id, query.project_ids),
    ...oneOf(sql, columns.user_id, query.user_ids),
    ...oneOf(sql, columns.api_key_id, query.api_key_ids),
    ...oneOf(sql, columns.model, query.models),
  ];
}

/** Who asks in which format, with OpenAI's name for where images came from; what is counted, and by which meters. */
const kinds = {
  embeddings: {
    formats: new Map([["openai-embeddings", null]]),
    unit: "input_tokens",
    sum: inputMeters,
  },
  moderations: {
    formats: new Map([["openai-moderations", null]]),
    unit: "input_tokens",
    sum: inputMeters,
  },
  images: {
    formats: new Map([
      ["openai-image-generations", "image.generation"],
      ["openai-image-edits", "image.edit"],
      ["openai-image-variations", "image.variation"],
    ]),
    unit: "images",
    sum: ["images"],
  },
  audio_speeches: {
    formats: new Map([["openai-speech", null]]),
    unit: "characters",
    sum: ["characters"],
  },
  audio_transcriptions: {
    formats: new Map([
      ["openai-transcriptions", null],
      ["openai-translations", null],
    ]),
    unit: "seconds",
    sum: ["audio_ms"],
  },
} as const satisfies Record<
  string,
  { formats: ReadonlyMap<FormatName, string | null>; unit: string; sum: readonly Meter[] }
>;
export const usageKinds = Object.keys(kinds) as readonly UsageKind[];

/** `line_item` is `"<model>, input"`, as FinOps tools split it. `amount.value` is a number, as at OpenAI. */
export async function organizationCosts(
  sql: postgres.Sql,
  url: string,
  nowMs: number,
): Promise<BucketPage> {
  const query = parseOrThrow(costsQuery, readQuery(url));
  // What the operator pays for calls without an answer is the organisation's cost, and no project's.
  const isOperators = sql`account = ${unansweredAccount}`;
  const columns: Record<(typeof costGroups)[number], Fragment> = {
    project_id: sql`case when ${isOperators} then null else project_id end`,
    user_id: sql`case when ${isOperators} then null else ${userId(sql)} end`,
    api_key_id: sql`case when ${isOperators} then null else key_id end`,
    line_item: sql`model || case when ${isOperators} then ', unanswered' else '' end
      || case meter when 'cache_read' then ', cached input'
      when 'cache_write' then ', cache write' else ', ' || replace(meter, '_', ' ') end`,
    api_source: sql`'unlabeled'`,
  };
  const window = readWindow(query, nowMs);
  const conditions = [
    sql`meter is not null`,
    ...within(sql, window),
    ...oneOf(sql, columns.project_id, query.project_ids),
    ...oneOf(sql, columns.user_id, query.user_ids),
    ...oneOf(sql, columns.api_key_id, query.api_key_ids),
    ...(query.line_items.length === 0
      ? []
      : [sql`${columns.line_item} = any(${query.line_items}::text[])`]),
  ];
  const keys = keyColumns(sql, window, query.group_by, columns);
  const rows = await sql`
    select ${columnList(sql, keys)}, sum(amount)::text as amount, sum(quantity) as quantity,
      min(meter) as meter
    from billing.entries where ${all(sql, conditions)}
    group by ${ordinals(sql, keys.length)} order by sum(amount) desc`;
  const byLine = query.group_by.includes("line_item");
  return toPage(window, rows, (row) => ({
    object: "organization.costs.result",
    amount: { value: Number(row.amount), currency: "usd" },
    line_item: row.line_item ?? null,
    project_id: row.project_id ?? null,
    user_id: row.user_id ?? null,
    api_key_id: row.api_key_id ?? null,
    api_source: row.api_source ?? null,
    quantity: byLine ? count(row.quantity) : null,
    // A line item is of one meter.
    quantity_unit: byLine ? (units[row.meter as UnitMeter] ?? "tokens") : null,
  }));
}

const units: Record<UnitMeter, string> = {
  images: "images",
  audio_ms: "duration_milliseconds",
  characters: "characters",
};

/** The person whose key it was; a service account is none. */
const userId = (sql: postgres.Sql): Fragment =>
  sql`case when owner_id like 'user\\_%' then owner_id end`;

/** What no request reported adds nothing. */
function summed(sql: postgres.Sql, meters: readonly TokenMeter[]): Fragment {
  const [first, ...rest] = meters.map((meter) => sql`coalesce(sum(${sql(meter)}), 0)`);
  return rest.reduce((sum, next) => sql`${sum} + ${next}`, first ?? sql`0`);
}

/** Whole buckets, aligned in UTC; rows count from `fromMs` and before `toMs`, as the client asked. */
type Window = {
  widthMs: number;
  firstBucketMs: number;
  buckets: number;
  fromMs: number;
  toMs: number;
  nextPage: string | null;
};

type WindowQuery = {
  start_time: number;
  end_time?: number | undefined;
  bucket_width: keyof typeof widths;
  limit?: number | undefined;
  page?: number | undefined;
};

function readWindow(query: WindowQuery, nowMs: number): Window {
  const { widthMs, byDefault, most } = widths[query.bucket_width];
  const limit = query.limit ?? byDefault;
  if (limit > most) {
    throw new HubError(
      "number_out_of_range",
      `Invalid 'limit': at most ${most} buckets of ${query.bucket_width} fit a page.`,
      { param: "limit" },
    );
  }
  const startMs = query.start_time * 1000;
  const endMs = query.end_time === undefined ? nowMs : query.end_time * 1000;
  if (endMs <= startMs) {
    throw new HubError("invalid_value", "Invalid 'end_time': it must come after 'start_time'.", {
      param: "end_time",
    });
  }
  const firstBucketMs = floorTo(Math.max(startMs, (query.page ?? 0) * 1000), widthMs);
  const left = Math.max(0, Math.ceil((endMs - firstBucketMs) / widthMs));
  const buckets = Math.min(limit, left);
  const pageEndMs = firstBucketMs + buckets * widthMs;
  return {
    widthMs,
    firstBucketMs,
    buckets,
    fromMs: Math.max(startMs, firstBucketMs),
    toMs: Math.min(endMs, pageEndMs),
    nextPage: left > buckets ? formatPage(pageEndMs / 1000) : null,
  };
}

function toPage(
  window: Window,
  rows: readonly postgres.Row[],
  toResult: (row: postgres.Row) => Record<string, unknown>,
): BucketPage {
  const results = new Map<number, Results>();
  for (const row of rows) {
    const bucket = Number(row.bucket);
    results.set(bucket, [...(results.get(bucket) ?? []), toResult(row)]);
  }
  const data = Array.from({ length: window.buckets }, (_, index) => {
    const start = (window.firstBucketMs + index * window.widthMs) / 1000;
    return {
      object: "bucket" as const,
      start_time: start,
      end_time: start + window.widthMs / 1000,
      results: results.get(start) ?? [],
    };
  });
  return { object: "page", data, has_more: window.nextPage !== null, next_page: window.nextPage };
}

function within(sql: postgres.Sql, { fromMs, toMs }: Window): Fragment[] {
  return [sql`at >= ${at(sql, fromMs)}`, sql`at < ${at(sql, toMs)}`];
}

/** The bucket, then each group once, however often it was asked for. */
function keyColumns<G extends string>(
  sql: postgres.Sql,
  { widthMs }: Window,
  groups: readonly G[],
  columns: Record<G, Fragment>,
): Fragment[] {
  const seconds = sql.unsafe(String(widthMs / 1000));
  const bucket = sql`(floor(extract(epoch from at) / ${seconds}) * ${seconds})::bigint as bucket`;
  return [
    bucket,
    ...[...new Set(groups)].map((group) => sql`${columns[group]} as ${sql(group as string)}`),
  ];
}

function oneOf(sql: postgres.Sql, column: Fragment, values: readonly string[]): Fragment[] {
  return values.length === 0 ? [] : [sql`${column} = any(${[...values]}::text[])`];
}

/** `1, 2, 3`: columns are grouped by position, which is a number of ours and never a client's text. */
function ordinals(sql: postgres.Sql, columns: number): Fragment {
  return sql.unsafe(Array.from({ length: columns }, (_, index) => index + 1).join(", "));
}

const floorTo = (ms: number, widthMs: number): number => Math.floor(ms / widthMs) * widthMs;

/** A cursor is the first second of its page, wrapped so that nobody builds one by hand. */
function formatPage(second: number): string {
  return `page_${Buffer.from(String(second)).toString("base64url")}`;
}

const pageCursor = z
  .string()
  .regex(/^page_[A-Za-z0-9_-]{1,32}$/, "expected the next_page of an earlier answer")
  .transform((text) => Number(Buffer.from(text.slice(5), "base64url").toString()))
  .pipe(z.int().nonnegative());

const widths = {
  "1m": { widthMs: 60_000, byDefault: 60, most: 1440 },
  "1h": { widthMs: 3_600_000, byDefault: 24, most: 168 },
  "1d": { widthMs: 86_400_000, byDefault: 7, most: 31 },
  /** Costs have days only, and more of them on a page. */
  costs: { widthMs: 86_400_000, byDefault: 7, most: 180 },
} as const;

const whose = ["project_id", "user_id", "api_key_id", "model"] as const;
const usageGroups = [...whose, "batch", "service_tier", "api_source"] as const;
const imageGroups = [...whose, "size", "source"] as const;
const costGroups = ["project_id", "user_id", "api_key_id", "line_item", "api_source"] as const;

/** 9999-12-31 in seconds: later moments have no ISO form that databases share. */
const unixSeconds = wholeNumber.pipe(z.int().min(0).max(253_402_300_799));
const common = {
  start_time: single(unixSeconds),
  end_time: single(unixSeconds.optional()),
  limit: single(wholeNumber.pipe(z.int().min(1)).optional()),
  page: single(pageCursor.optional()),
  project_ids: list(z.string()),
  user_ids: list(z.string()),
  api_key_ids: list(z.string()),
};

const usage = {
  ...common,
  bucket_width: single(z.enum(["1m", "1h", "1d"]).default("1d")),
  models: list(z.string()),
};
const usageQuery = z.object({
  ...usage,
  batch: single(truth.optional()),
  group_by: list(z.enum(usageGroups)),
});
const kindQuery = z.object({ ...usage, group_by: list(z.enum(whose)) });
const imagesQuery = z.object({
  ...usage,
  group_by: list(z.enum(imageGroups)),
  sources: list(z.enum(["image.generation", "image.edit", "image.variation"])),
  sizes: z.undefined({ error: "sizes of images are not kept" }).optional(),
});

const costsQuery = z.object({
  ...common,
  bucket_width: single(z.enum(["1d"]).default("1d")).transform(() => "costs" as const),
  group_by: list(z.enum(costGroups)),
  /** Not split at commas: a line item has one. */
  line_items: z.array(z.string()).default([]),
});
