/** The one table of error codes, and the error that carries them through every service. */
import { z } from "zod";

/**
 * What a code means to a client: the HTTP status, OpenAI's error `type`, and whether the same request
 * may succeed when sent again unchanged. `docs/errors.md` explains each; a test keeps the two equal.
 */
export const errorTable = {
  // The request itself is wrong.
  invalid_json: { status: 400, type: "invalid_request_error", retry: false },
  missing_required_parameter: { status: 400, type: "invalid_request_error", retry: false },
  invalid_type: { status: 400, type: "invalid_request_error", retry: false },
  invalid_value: { status: 400, type: "invalid_request_error", retry: false },
  number_out_of_range: { status: 400, type: "invalid_request_error", retry: false },
  unsupported_parameter: { status: 400, type: "invalid_request_error", retry: false },
  context_length_exceeded: { status: 400, type: "invalid_request_error", retry: false },
  content_filter: { status: 400, type: "invalid_request_error", retry: false },
  guardrail_blocked: { status: 400, type: "invalid_request_error", retry: false },
  request_timeout: { status: 408, type: "invalid_request_error", retry: true },
  request_too_large: { status: 413, type: "invalid_request_error", retry: false },
  unsupported_media_type: { status: 415, type: "invalid_request_error", retry: false },

  // Who asks, and for what.
  missing_api_key: { status: 401, type: "invalid_request_error", retry: false },
  invalid_api_key: { status: 401, type: "invalid_request_error", retry: false },
  permission_denied: { status: 403, type: "invalid_request_error", retry: false },
  previous_response_not_found: { status: 400, type: "invalid_request_error", retry: false },
  model_not_found: { status: 404, type: "invalid_request_error", retry: false },
  session_expired: { status: 400, type: "invalid_request_error", retry: false },
  websocket_connection_limit_reached: { status: 400, type: "invalid_request_error", retry: false },
  invalid_state: { status: 409, type: "invalid_request_error", retry: false },
  not_found: { status: 404, type: "invalid_request_error", retry: false },
  unknown_url: { status: 404, type: "invalid_request_error", retry: false },
  method_not_allowed: { status: 405, type: "invalid_request_error", retry: false },

  // Requests that are sent again.
  idempotency_key_reused: { status: 422, type: "invalid_request_error", retry: false },
  idempotency_key_in_use: { status: 409, type: "invalid_request_error", retry: true },
  idempotency_answer_lost: { status: 409, type: "invalid_request_error", retry: false },

  // Limits and budgets.
  rate_limit_exceeded: { status: 429, type: "rate_limit_error", retry: true },
  insufficient_quota: { status: 429, type: "insufficient_quota", retry: false },
  no_price: { status: 400, type: "invalid_request_error", retry: false },

  // Adapters, versions, aliases, evals.
  invalid_adapter: { status: 400, type: "invalid_request_error", retry: false },
  unsupported_adapter: { status: 400, type: "invalid_request_error", retry: false },
  adapter_rank_too_large: { status: 400, type: "invalid_request_error", retry: false },
  adapter_base_mismatch: { status: 400, type: "invalid_request_error", retry: false },
  adapter_already_loaded: { status: 400, type: "invalid_request_error", retry: false },
  adapter_not_applied: { status: 502, type: "server_error", retry: false },
  invalid_dataset: { status: 400, type: "invalid_request_error", retry: false },
  already_exists: { status: 409, type: "invalid_request_error", retry: false },
  alias_moved: { status: 409, type: "invalid_request_error", retry: false },
  no_evidence: { status: 400, type: "invalid_request_error", retry: false },

  // Something behind the gateway failed, or we are full.
  guardrail_unavailable: { status: 503, type: "service_unavailable_error", retry: true },
  upstream_error: { status: 502, type: "server_error", retry: true },
  upstream_model_not_found: { status: 502, type: "server_error", retry: false },
  upstream_auth_failed: { status: 502, type: "server_error", retry: false },
  upstream_timeout: { status: 504, type: "server_error", retry: true },
  upstream_unavailable: { status: 503, type: "service_unavailable_error", retry: true },
  server_is_overloaded: { status: 503, type: "service_unavailable_error", retry: true },
  database_unavailable: { status: 503, type: "service_unavailable_error", retry: true },
  storage_full: { status: 503, type: "service_unavailable_error", retry: true },
  shutting_down: { status: 503, type: "service_unavailable_error", retry: true },
  deadline_exceeded: { status: 504, type: "server_error", retry: false },
  request_cancelled: { status: 499, type: "invalid_request_error", retry: false },
  unsupported_model: { status: 400, type: "invalid_request_error", retry: false },
  content_unreadable: { status: 500, type: "server_error", retry: false },
  request_quarantined: { status: 500, type: "server_error", retry: false },
  internal_error: { status: 500, type: "server_error", retry: true },
} as const satisfies Record<string, { status: number; type: string; retry: boolean }>;

export type ErrorCode = keyof typeof errorTable;

export type HubErrorOptions = {
  /** The request field at fault, such as `messages[0].role`. */
  param?: string | undefined;
  cause?: unknown;
  /** How long a client should wait before it tries again; sent as `retry-after(-ms)`. */
  retryAfterMs?: number | undefined;
  /** Facts for a program: near matches, limits, counts. Never keys or prompts. */
  details?: Record<string, unknown> | undefined;
  /**
   * What logs and records keep in the message's place, where that repeats somebody else's words: an
   * upstream may quote the prompt, or what it takes for a key.
   */
  unquoted?: string | undefined;
  /** Sent with the answer, such as `x-ratelimit-*`. */
  headers?: Readonly<Record<string, string>> | undefined;
};

/** A failure that a client is meant to see: what was wrong, what was expected, what to change. */
export class HubError extends Error {
  override readonly name = "HubError";
  readonly code: ErrorCode;
  readonly param: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly details: Record<string, unknown> | undefined;
  readonly headers: Readonly<Record<string, string>> | undefined;
  /** The message as logs and records may keep it. */
  readonly unquoted: string;

  constructor(code: ErrorCode, message: string, options: HubErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.param = options.param;
    this.retryAfterMs = options.retryAfterMs;
    this.details = options.details;
    this.headers = options.headers;
    this.unquoted = options.unquoted ?? message;
  }

  get status(): number {
    return errorTable[this.code].status;
  }
}

/** OpenAI's error envelope; the four inner keys are always present, `details` only where there are any. */
export const errorBody = z.object({
  error: z.object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
    details: z.record(z.string(), z.unknown()).optional(),
  }),
});
export type ErrorBody = z.infer<typeof errorBody>;

/** The envelope of any thrown value. What is not a `HubError` is our own fault and tells nothing. */
export function toErrorBody(error: unknown): ErrorBody {
  const hubError = asHubError(error);
  return {
    error: {
      message: hubError.message,
      type: errorTable[hubError.code].type,
      param: hubError.param ?? null,
      code: hubError.code,
      ...(hubError.details === undefined ? {} : { details: hubError.details }),
    },
  };
}

/** Status, headers and envelope of any thrown value, as a response that the official SDKs understand. */
export function toErrorResponse(error: unknown, headers: Record<string, string> = {}): Response {
  const hubError = asHubError(error);
  const all = new Headers({ ...headers, ...hubError.headers });
  all.set("content-type", "application/json");
  all.set("x-should-retry", String(errorTable[hubError.code].retry));
  if (hubError.retryAfterMs !== undefined) {
    all.set("retry-after-ms", String(Math.ceil(hubError.retryAfterMs)));
    all.set("retry-after", String(Math.max(1, Math.ceil(hubError.retryAfterMs / 1000))));
  }
  return new Response(JSON.stringify(toErrorBody(hubError)), {
    status: hubError.status,
    headers: all,
  });
}

export function asHubError(error: unknown): HubError {
  if (error instanceof HubError) return error;
  return new HubError(
    "internal_error",
    "The server had an error while processing your request. Its log has the details under the request's id.",
    { cause: error },
  );
}

/** The first problem that zod found, in OpenAI's words, with the field's path as `param`. */
export function fromZodError(error: z.ZodError, prefix = ""): HubError {
  const first = error.issues[0];
  if (!first) return new HubError("invalid_value", "The request is not valid.");
  const issue = nearestIssue(first);
  const unknown = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const param = (prefix + formatPath([...issue.path, ...unknown])).replace(/\.$/, "") || undefined;
  const where = param === undefined ? "the request body" : `'${param}'`;
  const problem = lowerFirst(issue.message.replace(/^Invalid input: /, ""));
  switch (issue.code) {
    case "invalid_type":
      return isMissing(issue)
        ? new HubError("missing_required_parameter", `Missing required parameter: ${where}.`, {
            param,
          })
        : new HubError("invalid_type", `Invalid type for ${where}: ${problem}.`, { param });
    case "unrecognized_keys":
      return new HubError("invalid_value", `Unknown parameter: ${where}.`, { param });
    case "too_big":
    case "too_small":
      return new HubError("number_out_of_range", `Invalid ${where}: ${problem}.`, { param });
    default:
      return new HubError("invalid_value", `Invalid ${where}: ${problem}.`, { param });
  }
}

/**
 * Parses untrusted data, or throws the `HubError` that names the offending field.
 * @param prefix put before the field's path, such as `candidates[0].`
 */
export function parseOrThrow<S extends z.ZodType>(
  schema: S,
  data: unknown,
  prefix = "",
): z.infer<S> {
  const parsed = schema.safeParse(data);
  if (!parsed.success) throw fromZodError(parsed.error, prefix);
  return parsed.data;
}

/** Our own mistakes: a broken promise inside the program, never a client's fault. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`);
}

type Issue = z.core.$ZodIssue;

/**
 * A union tells only that no branch fits. What the client meant is the branch that got furthest into the
 * value; where none got anywhere, the value is of no type that would do.
 */
function nearestIssue(issue: Issue): Issue {
  if (issue.code !== "invalid_union" || issue.errors.length === 0) return issue;
  const branches = issue.errors.flatMap(([first]) => (first ? [nearestIssue(first)] : []));
  const furthest = branches.reduce<Issue | undefined>(
    (best, branch) => (isNearer(branch, best) ? branch : best),
    undefined,
  );
  if (furthest) return { ...furthest, path: [...issue.path, ...furthest.path] };
  const [first] = branches;
  if (first?.code !== "invalid_type" || first.message.endsWith("received undefined")) {
    return first ? { ...first, path: issue.path } : issue;
  }
  const expected = branches.flatMap((branch) =>
    branch.code === "invalid_type" ? [branch.expected] : [],
  );
  return { ...first, path: issue.path, message: `expected ${[...new Set(expected)].join(" or ")}` };
}

/** Of two that got equally far, one that misses a field says more than one that wanted a value for it. */
function isNearer(branch: Issue, best: Issue | undefined): boolean {
  if (branch.path.length !== (best?.path.length ?? 0)) {
    return branch.path.length > (best?.path.length ?? 0);
  }
  return best !== undefined && isMissing(branch) && !isMissing(best);
}

function isMissing(issue: Issue): boolean {
  return issue.code === "invalid_type" && issue.message.endsWith("received undefined");
}

function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) =>
      typeof part === "number"
        ? `${text}[${part}]`
        : text === ""
          ? String(part)
          : `${text}.${String(part)}`,
    "",
  );
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1).replace(/\.$/, "");
}
