/** Checks answers against our own OpenAPI document: a status that it tells, a media type, and a body of its schema. */
import { Ajv2020 } from "ajv/dist/2020.js";
import { openApiDocument } from "../../gateway/openapi/document.ts";
import type { Operation } from "../../sdk/protocol/openapi/operation.ts";

export type Answered = { status: number; type: string; text: string };

const documentId = "https://switchyard.internal/openapi.json";
const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema({ ...openApiDocument(), $id: documentId });

/** @returns what is wrong with an answer, or undefined */
export function faultOf(
  { path, method }: Pick<Operation, "path" | "method">,
  { status, type, text }: Answered,
): string | undefined {
  const paths = openApiDocument().paths as Record<string, Record<string, Told>>;
  const told = paths[path]?.[method]?.responses[status];
  if (!told) return `${status} is not told: ${text.slice(0, 300)}`;
  const media = type.split(";")[0] ?? "";
  if (told.content[media] === undefined) return `${media} is not told for ${status}`;
  if (media !== "application/json") return undefined;
  const pointer = ["paths", path, method, "responses", String(status), "content", media, "schema"];
  const validate = ajv.compile({ $ref: `${documentId}#/${pointer.map(escaped).join("/")}` });
  if (validate(JSON.parse(text))) return undefined;
  return `${ajv.errorsText(validate.errors)}: ${text.slice(0, 300)}`;
}

type Told = { responses: Record<string, { content: Record<string, unknown> }> };

/** For a JSON pointer within a URL. */
function escaped(part: string): string {
  return encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"));
}
