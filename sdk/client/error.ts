/** The one error that the client throws: what the server said, or that it could not be asked. */
import { errorBody } from "../protocol/errors.ts";

export type SwitchyardErrorFacts = {
  /** One of `docs/errors.md`, `connection_failed`, or `timeout`. */
  code: string;
  /** The field at fault. */
  param?: string | undefined;
  /** Absent when no answer came. */
  status?: number | undefined;
  /** What the server's log knows the request by. */
  requestId?: string | undefined;
  cause?: unknown;
};

export class SwitchyardError extends Error {
  override readonly name = "SwitchyardError";
  readonly code: string;
  readonly param: string | undefined;
  readonly status: number | undefined;
  readonly requestId: string | undefined;

  constructor(message: string, { code, param, status, requestId, cause }: SwitchyardErrorFacts) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.param = param;
    this.status = status;
    this.requestId = requestId;
  }
}

/** Reads OpenAI's error envelope; an answer without one (a proxy's page) keeps its status. */
export async function readError(response: Response): Promise<SwitchyardError> {
  const text = await response.text();
  const facts = {
    status: response.status,
    requestId: response.headers.get("x-request-id") ?? undefined,
  };
  const parsed = errorBody.safeParse(parseJson(text));
  if (!parsed.success) {
    return new SwitchyardError(
      `${response.url} answered ${response.status} without saying why. Is it a Switchyard?`,
      { code: `http_${response.status}`, ...facts },
    );
  }
  const { message, code, param } = parsed.data.error;
  return new SwitchyardError(message, {
    code: code ?? `http_${response.status}`,
    param: param ?? undefined,
    ...facts,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
