/**
 * OpenAI's own document of its API, held against everything that went through the door while the other suites ran: each
 * answer by its address and status, each event of a stream.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { parseSseFrame, SseFramer } from "../../sdk/protocol/sse.ts";
import type { Exchange } from "./door.ts";
import type { Suite, SuiteResult } from "./suite.ts";
import { sourceOf } from "./workshop.ts";

export const openApiDocument: Suite = {
  name: "openai-openapi",
  async run({ door }) {
    const source = await sourceOf("openai/openai-openapi", "OPENAI_OPENAPI_SOURCE");
    const text = await readFile(join(source, "openapi.json"), "utf8");
    const document = toSchema2020(JSON.parse(text)) as Document;
    mend(document);
    const validator = new Ajv2020({ strict: false, allErrors: false, validateFormats: false });
    validator.addSchema({ $id: "document", ...document });
    const compiled = new Map<string, ValidateFunction>();
    const validate = (place: string) => {
      const known = compiled.get(place) ?? validator.compile({ $ref: `document#${place}` });
      compiled.set(place, known);
      return known;
    };
    const result: SuiteResult = {
      version: document.info.version,
      passed: 0,
      failures: [],
      excepted: [],
    };
    const said = new Set<string>();
    const seen = {
      addresses: new Set<string>(),
      events: new Set<string>(),
      errors: new Set<string>(),
    };
    for (const exchange of door.exchanges) {
      for (const { place, value, name } of valuesOf(exchange, document)) {
        const [address = "", event] = name.split(", ");
        if (place.endsWith("/ErrorResponse")) seen.errors.add(name);
        else if (event) seen.events.add(name);
        else seen.addresses.add(address);
        const valid = validate(place);
        if (valid(value)) {
          result.passed++;
          continue;
        }
        const [first] = valid.errors ?? [];
        const error = `${first?.instancePath} ${first?.message}: ${JSON.stringify(value).slice(0, 400)}`;
        const failure = `${name} ${first?.instancePath.replace(/\d+/g, "n")} ${first?.message}`;
        if (said.has(failure)) continue;
        said.add(failure);
        result.failures.push({ name, error });
      }
    }
    const counted = Object.entries(seen).map(([kind, names]) => `${names.size} kinds of ${kind}`);
    console.log(`held against the document: ${counted.join(", ")}`);
    return result;
  },
};

type Document = {
  info: { version: string };
  components: { schemas: Record<string, Schema> };
  paths: Record<string, Record<string, { responses: Record<string, Answer> }>>;
};
type Schema = { properties?: Record<string, unknown>; allOf?: Schema[] };
type Answer = { content?: Record<string, { schema: unknown }> };
type Value = { name: string; place: string; value: unknown };

/** Where OpenAI's own answers, and the examples in the document itself, are not as the document says. */
function mend({ components: { schemas } }: Document): void {
  const orElse = (name: string | Schema, type: string, properties: readonly string[]) => {
    const schema = typeof name === "string" ? schemas[name] : name;
    const known = schema?.properties ?? schema?.allOf?.at(-1)?.properties ?? {};
    for (const property of properties) {
      known[property] = { anyOf: [known[property] ?? {}, { type }] };
    }
  };
  const moments = "in_progress expires finalizing completed failed expired cancelling cancelled";
  orElse("ModelResponseProperties", "null", ["user"]);
  orElse("Response", "null", ["usage"]);
  orElse("Batch", "null", [
    ...["model", "errors", "output_file_id", "error_file_id", "metadata", "usage"],
    ...moments.split(" ").map((moment) => `${moment}_at`),
  ]);
  orElse("ListBatchesResponse", "null", ["first_id", "last_id"]);
  orElse("ListFilesResponse", "null", ["first_id", "last_id"]);
  // A stream's chunks before its end.
  const { choices } = (schemas.CreateCompletionResponse?.properties ?? {}) as {
    choices?: { items?: Schema };
  };
  orElse("CreateCompletionResponse", "null", ["usage"]);
  orElse(choices?.items ?? {}, "null", ["finish_reason"]);
  // The request's own messages, which have other roles than the assistant's.
  orElse("ChatCompletionMessageList", "array", ["data"]);
  // As base64, which its clients ask for.
  orElse("Embedding", "string", ["embedding"]);
}

/** What an exchange said, each with the place of its schema in the document. */
function valuesOf(
  { method, path, status, contentType, body }: Exchange,
  document: Document,
): Value[] {
  const place = path.replace(/^\/v1/, "");
  const template = Object.keys(document.paths).find((one) => fits(one, place));
  const operation = template && document.paths[template]?.[method.toLowerCase()];
  if (!template || !operation || !path.startsWith("/v1/")) return [];
  const name = `${method} ${template} ${status}`;
  if (status >= 400) {
    return [{ name, place: "/components/schemas/ErrorResponse", value: JSON.parse(body) }];
  }
  const at = `/paths/${template.replaceAll("/", "~1")}/${method.toLowerCase()}/responses`;
  const answer = operation.responses[String(status)] ? String(status) : "200";
  if (/^application\/json/.test(contentType)) {
    if (!operation.responses[answer]?.content?.["application/json"]) return [];
    const schema = `${at}/${answer}/content/application~1json/schema`;
    return [{ name, place: encoded(schema), value: JSON.parse(body) }];
  }
  if (!/^text\/event-stream/.test(contentType)) return [];
  const told = operation.responses[answer]?.content?.["text/event-stream"];
  const events = told
    ? encoded(`${at}/${answer}/content/text~1event-stream/schema`)
    : untoldEvents[template];
  if (!events) return [];
  const framer = new SseFramer({ frameBytesMax: 1 << 24 });
  return framer.push(Buffer.from(body)).flatMap((frame) => {
    const data = parseSseFrame(frame)?.data;
    if (data === undefined || data === "[DONE]") return [];
    const value = JSON.parse(data) as { error?: unknown; type?: string };
    const isError = value.error !== undefined && value.type === undefined;
    const place = isError ? "/components/schemas/ErrorResponse" : events;
    return [{ name: `${name}, ${value.type ?? "an event"}`, place, value }];
  });
}

/** Places in a reference are percent-encoded. */
function encoded(place: string): string {
  return place.replaceAll("{", "%7B").replaceAll("}", "%7D");
}

function fits(template: string, path: string): boolean {
  const pattern = template.replace(/\{[^}]+\}/g, "[^/]+");
  return new RegExp(`^${pattern}$`).test(path);
}

/** The document is OpenAPI 3.1 with words of 3.0 left in it. */
function toSchema2020(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toSchema2020);
  if (typeof value !== "object" || value === null) return value;
  const { nullable, exclusiveMinimum, exclusiveMaximum, discriminator, ...rest } = value as Record<
    string,
    unknown
  >;
  const schema = Object.fromEntries(
    Object.entries(rest).map(([name, one]) => [name, toSchema2020(one)]),
  );
  if (typeof exclusiveMinimum === "number") schema.exclusiveMinimum = exclusiveMinimum;
  if (typeof exclusiveMaximum === "number") schema.exclusiveMaximum = exclusiveMaximum;
  if (typeof exclusiveMinimum === "object") {
    schema.exclusiveMinimum = toSchema2020(exclusiveMinimum);
  }
  if (discriminator !== undefined && typeof discriminator !== "object") {
    schema.discriminator = discriminator;
  }
  return nullable === true ? { anyOf: [schema, { type: "null" }] } : schema;
}

/** Of streams whose answers the document tells of, and not that they are streams as well. */
const untoldEvents: Record<string, string> = {
  "/completions": "/components/schemas/CreateCompletionResponse",
  "/responses/{response_id}": "/components/schemas/ResponseStreamEvent",
};
