/** Writes an OpenAPI 3.1 document from operations, whose schemas are zod's own. */
import { z } from "zod";
import type { ErrorCode } from "../errors.ts";
import {
  type Answer,
  bodyCodes,
  type ErrorShape,
  keyCodes,
  type Operation,
  openAiErrors,
  queryCodes,
} from "./operation.ts";

export type Json = { [key: string]: unknown };

export type DocumentParts = {
  info: { title: string; version: string; description: string };
  operations: readonly Operation[];
  /** Schemas that have a name, and are referred to by it wherever they are part of another. */
  schemas: Readonly<Record<string, z.ZodType>>;
};

/** @see https://spec.openapis.org/oas/v3.1.1.html */
export function writeDocument({ info, operations, schemas }: DocumentParts): Json {
  const shapes = new Map(operations.map(({ errors = openAiErrors }) => [errors.name, errors]));
  const named = { ...schemas };
  for (const { name, schema } of shapes.values()) named[name] = schema;
  const write = schemaWriter(named);
  const paths: Record<string, Json> = {};
  for (const operation of operations) {
    paths[operation.path] ??= {};
    Object.assign(paths[operation.path] as Json, {
      [operation.method]: writeOperation(operation, write),
    });
  }
  return {
    openapi: "3.1.0",
    info: { ...info, license: { name: "Apache-2.0", identifier: "Apache-2.0" } },
    servers: [{ url: "/" }],
    tags: [...new Set(operations.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: write.components,
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        ...Object.fromEntries(
          [...shapes.values()].flatMap(({ keyHeader: name }) =>
            name === undefined ? [] : [[name, { type: "apiKey", in: "header", name }]],
          ),
        ),
      },
    },
  };
}

/** Statuses that an operation may answer with, and which errors are told by each. */
function errorsOf(operation: Operation): Map<number, ErrorCode[]> {
  const { path, access, body, query, params, codes = [], errors = openAiErrors } = operation;
  const all: readonly ErrorCode[] = [
    ...(access === "anyone" ? [] : keyCodes),
    ...(body ? bodyCodes : []),
    ...(query || params ? queryCodes : []),
    ...(path.includes("{") ? (["unknown_url"] as const) : []),
    ...codes,
    "internal_error",
  ];
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of new Set(all)) {
    const status = errors.statusOf(code);
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return byStatus;
}

type SchemaWriter = ((schema: z.ZodType) => unknown) & { components: Json };

function writeOperation(operation: Operation, write: SchemaWriter): Json {
  const { id, tag, summary, access, errors = openAiErrors, body, answers } = operation;
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(access !== "anyone" && { description: `${whoseKey[access]}.` }),
    security: securityOf(access, errors),
    parameters: [...pathParameters(operation, write), ...queryParameters(operation, write)],
    ...(body && {
      requestBody: {
        required: body.optional !== true,
        content: {
          [body.type ?? "application/json"]: {
            schema: write(body.schema),
            ...(body.example !== undefined && { example: body.example }),
          },
        },
      },
    }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, answer]) => [status, writeAnswer(answer, write)]),
      ),
      ...Object.fromEntries(
        [...errorsOf(operation)].map(([status, codes]) => [
          status,
          {
            description: codes.map((code) => `\`${code}\``).join(", "),
            content: { "application/json": { schema: write(errors.schema) } },
          },
        ]),
      ),
    },
  };
}

function writeAnswer({ says, content }: Answer, write: SchemaWriter): Json {
  return {
    description: says,
    content: Object.fromEntries(
      Object.entries(content).map(([type, schema]) => [type, { schema: write(schema) }]),
    ),
  };
}

function securityOf(access: Operation["access"], { keyHeader }: ErrorShape): Json[] {
  if (access === "anyone") return [];
  return [{ bearer: [] }, ...(keyHeader === undefined ? [] : [{ [keyHeader]: [] }])];
}

function pathParameters({ path, params = {} }: Operation, write: SchemaWriter): Json[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    schema: write(params[name] ?? z.string().min(1)),
  }));
}

function queryParameters({ query }: Operation, write: SchemaWriter): Json[] {
  return Object.entries(query?.shape ?? {}).map(([name, schema]) => ({
    name,
    in: "query",
    required: !(schema as z.ZodType).safeParse(undefined).success,
    schema: write(schema as z.ZodType),
  }));
}

/**
 * All schemas are written as what may be sent: an answer with a field more than is told is no other answer.
 * Transformed values are what they are before; what has no form in JSON Schema may be anything.
 */
function schemaWriter(named: Readonly<Record<string, z.ZodType>>): SchemaWriter {
  const registry = z.registry<{ id: string }>();
  const names = new Map<z.ZodType, string>();
  for (const [id, schema] of Object.entries(named)) {
    registry.add(schema, { id });
    names.set(schema, id);
  }
  const options = { io: "input", unrepresentable: "any" } as const;
  const all = z.toJSONSchema(registry, { ...options, uri: (id) => componentsPath + id });
  const components = Object.fromEntries(
    Object.entries(all.schemas).map(([id, schema]) => [id, cleaned(schema)]),
  );
  const write = (schema: z.ZodType): unknown => {
    const name = names.get(schema);
    if (name !== undefined) return { $ref: componentsPath + name };
    const { $defs: _, ...written } = z.toJSONSchema(schema, { ...options, metadata: registry });
    return JSON.parse(
      JSON.stringify(cleaned(written)).replaceAll('"#/$defs/', `"${componentsPath}`),
    );
  };
  return Object.assign(write, { components });
}

/** Without what only a document by itself needs. */
function cleaned(schema: object): Json {
  const { $schema: _schema, $id: _id, id: _name, ...rest } = schema as Json;
  return rest;
}

const componentsPath = "#/components/schemas/";
const whoseKey = {
  project: "A project's key",
  admin: "An admin's key",
  both: "A project's key for its own, an admin's for everything",
} as const;
