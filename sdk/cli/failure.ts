/** How a command ends when it does not succeed: its exit code, and what is told. */
import { SwitchyardError } from "../client/error.ts";

export const exitCodes = { done: 0, failed: 1, wrongUse: 2, inconclusive: 3 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** The command was written in a way that cannot work; the message says how to write it. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What a command of this machine could not do; `code` is for programs, `hint` says what to change. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly code: string;
  readonly hint: string | undefined;
  readonly exitCode: ExitCode;

  constructor(
    message: string,
    facts: { code: string; hint?: string | undefined; exitCode?: ExitCode; cause?: unknown },
  ) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = facts.code;
    this.hint = facts.hint;
    this.exitCode = facts.exitCode ?? exitCodes.failed;
  }
}

export type Failure = {
  exitCode: ExitCode;
  message: string;
  code?: string;
  param?: string;
  status?: number;
  requestId?: string;
  /** What to do about it. */
  hint?: string;
};

/** What any thrown value means to somebody at a terminal. */
export function toFailure(error: unknown): Failure {
  if (error instanceof UsageError) return { exitCode: exitCodes.wrongUse, message: error.message };
  if (error instanceof CommandError) {
    const { exitCode, message, code, hint } = error;
    return { exitCode, message, code, ...(hint === undefined ? {} : { hint }) };
  }
  const facts = error instanceof SwitchyardError ? error : openaiError(error);
  if (!facts) {
    const message = error instanceof Error ? error.message : String(error);
    return { exitCode: exitCodes.failed, message };
  }
  const { message, code, param, status, requestId } = facts;
  const hint = hints[code];
  return {
    exitCode: ourFault.has(code) && status === undefined ? exitCodes.wrongUse : exitCodes.failed,
    message,
    code,
    ...(param === undefined ? {} : { param }),
    ...(status === undefined ? {} : { status }),
    ...(requestId === undefined ? {} : { requestId }),
    ...(hint === undefined ? {} : { hint }),
  };
}

/** Errors of the official client, which `chat` goes through, told like all others. */
function openaiError(error: unknown): SwitchyardError | undefined {
  if (!(error instanceof Error) || !("requestID" in error)) return undefined;
  const { code, param, status, requestID }: Record<string, unknown> = { ...error };
  return new SwitchyardError(error.message.replace(/^\d{3} /, ""), {
    code: typeof code === "string" ? code : status === undefined ? "connection_failed" : "unknown",
    param: typeof param === "string" ? param : undefined,
    status: typeof status === "number" ? status : undefined,
    requestId: typeof requestID === "string" ? requestID : undefined,
    cause: error,
  });
}

/** Found by the client before anything was sent. */
const ourFault = new Set(["invalid_file", "invalid_folder", "missing_api_key", "ambiguous_name"]);

const keysComeFrom =
  "Keys come from SWITCHYARD_API_KEY and SWITCHYARD_ADMIN_KEY, from 'switchyard login', or for a server on this machine from keys.json in its data folder (SWITCHYARD_DATA_DIR, else .switchyard).";

const hints: Record<string, string> = {
  connection_failed: "Start it with 'npm start', or say where it is with --url or SWITCHYARD_URL.",
  missing_api_key: keysComeFrom,
  invalid_api_key: keysComeFrom,
  permission_denied:
    "Some things want an admin's key or a role that 'switchyard whoami' does not show, runs of evals a project's key.",
  alias_moved:
    "Somebody moved the alias in between. Look with 'switchyard adapters show NAME' and try again.",
  no_evidence:
    "Measure the version first with 'switchyard evals run', or promote it unmeasured with --force.",
  model_not_found: "See what there is with 'switchyard models served'.",
  adapter_base_mismatch:
    "If the adapter was trained on this very base under another name, push it with --accept-base-name.",
  rate_limit_exceeded: "Wait a little and try again.",
  insufficient_quota: "See the limits with 'switchyard projects list'.",
};
