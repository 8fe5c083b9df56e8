/** Whom a request is for: the end user of the application that sends it. */
import { hash } from "node:crypto";
import { HubError } from "../../sdk/protocol/errors.ts";
import { endUserHeader } from "../../sdk/protocol/http.ts";
import type { Call } from "../dialects/dialect.ts";

/**
 * From the header, else from where the dialect has it: `safety_identifier` or `user` of OpenAI's, `user_id` of Anthropic's
 * metadata, of Gemini's labels and of Bedrock's metadata of a request. Of a name that is too long to keep its SHA-256 stands for it.
 * @throws HubError `invalid_value` for a header that is no name
 */
export function endUserOf(
  request: Request,
  { body, metadata: labels }: Pick<Call, "body"> & Partial<Pick<Call, "metadata">>,
): string | undefined {
  const header = request.headers.get(endUserHeader)?.trim();
  if (header !== undefined && (header === "" || header.length > lengthMax)) {
    throw new HubError(
      "invalid_value",
      `Invalid '${endUserHeader}': expected 1 to ${lengthMax} characters that name the end user.`,
      { param: endUserHeader },
    );
  }
  const { metadata } = body;
  const userId = isRecord(metadata) ? metadata.user_id : undefined;
  const told = [header, body.safety_identifier, body.user, userId, labels?.user_id].find(
    (value): value is string => typeof value === "string" && value !== "",
  );
  return told === undefined ? undefined : keptName(told);
}

/** The name by which an end user is known in what is kept. */
export function keptName(told: string): string {
  return told.length <= lengthMax ? told : `sha256:${hash("sha256", told)}`;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

const lengthMax = 256;
