/** The lines of a batch's input file: split as they are read, and checked one by one. */
import { z } from "zod";
import { fromZodError } from "../../sdk/protocol/errors.ts";
import { membersOf } from "../http/json-text.ts";

/** `text` is absent for a line that is longer than it may be, or no UTF-8. Numbers begin at 1. */
export type Line = { number: number } & (
  | { type: "text"; text: string }
  | { type: "blank" }
  | { type: "too_long" }
  | { type: "not_text" }
);

/** A fault as OpenAI tells of it, in `errors.data` of a batch. */
export type LineFault = {
  code: string;
  message: string;
  param: string | null;
  line: number | null;
};

export type BatchLine = {
  number: number;
  customId: string;
  model: string;
  /** The body's own characters: its numbers may not all survive as doubles. */
  body: () => string;
};

/** Splits at line feeds. Of a line that is too long nothing is kept. */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  lineBytesMax: number,
): AsyncGenerator<Line> {
  let number = 0;
  let held: Uint8Array[] = [];
  let bytes = 0;
  const add = (piece: Uint8Array) => {
    bytes += piece.length;
    if (bytes <= lineBytesMax) held.push(piece);
    else held = [];
  };
  const take = (): Line => {
    number++;
    const line = bytes > lineBytesMax ? ({ type: "too_long" } as const) : toText(held);
    held = [];
    bytes = 0;
    return { number, ...line };
  };
  for await (const chunk of chunks) {
    let from = 0;
    for (let at = chunk.indexOf(lineFeed); at !== -1; at = chunk.indexOf(lineFeed, from)) {
      add(chunk.subarray(from, at));
      from = at + 1;
      yield take();
    }
    add(chunk.subarray(from));
  }
  yield take();
}

/** @returns the request in the line, or what is wrong with it; nothing is wrong with a blank one */
export function readLine(line: Line, endpoint: string): BatchLine | LineFault[] {
  const fault = (code: string, message: string, param: string | null = null): LineFault[] => [
    { code, message, param, line: line.number },
  ];
  switch (line.type) {
    case "blank":
      return [];
    case "too_long":
      return fault("line_too_long", "This line is longer than a line of a batch may be.");
    case "not_text":
      return fault("invalid_json_line", "This line is not valid UTF-8.");
    case "text":
      break;
    default:
      return line satisfies never;
  }
  let value: unknown;
  try {
    value = JSON.parse(line.text);
  } catch {
    return fault("invalid_json_line", "This line is not parseable as valid JSON.");
  }
  const parsed = batchLine.safeParse(value);
  if (!parsed.success) {
    // Each field's own fault, not only that of the first.
    return parsed.error.issues.map((issue) => {
      const { code, message, param } = fromZodError(new z.ZodError([issue]));
      return { code, message, param: param ?? null, line: line.number };
    });
  }
  const { custom_id: customId, url, body } = parsed.data;
  if (url !== endpoint) {
    return fault(
      "mismatched_url",
      `The URL of this request is not the batch's endpoint, which is ${endpoint}.`,
      "url",
    );
  }
  if (body.stream === true) {
    return fault("unsupported_parameter", "A request of a batch is not streamed.", "body.stream");
  }
  if (body.background === true) {
    const message = "A request of a batch runs with its batch, and not in the background.";
    return fault("unsupported_parameter", message, "body.background");
  }
  const { number, text } = line;
  return { number, customId, model: body.model, body: () => membersOf(text).get("body") ?? "{}" };
}

export type CheckedFile = {
  /** The requests that there are to be made. */
  total: number;
  /** The model that all lines name, where it is one. */
  model: string | undefined;
  faults: LineFault[];
};

export type CheckOptions = {
  endpoint: string;
  linesMax: number;
  lineBytesMax: number;
  /** Further faults are not listed. */
  faultsMax: number;
};

/** Reads the whole file once, before any of its requests is made. */
export async function checkFile(
  chunks: AsyncIterable<Uint8Array>,
  { endpoint, linesMax, lineBytesMax, faultsMax }: CheckOptions,
): Promise<CheckedFile> {
  const faults: LineFault[] = [];
  const customIds = new Set<string>();
  const models = new Set<string>();
  let total = 0;
  for await (const line of readLines(chunks, lineBytesMax)) {
    if (line.type !== "blank") total++;
    // Blank lines cost little each, and a file has room for very many.
    const blank = line.number - total;
    if (total > linesMax || blank > linesMax) {
      faults.push({
        code: "too_many_tasks",
        message: `The file has more than ${linesMax} ${total > linesMax ? "requests" : "blank lines"}, which is the most that a batch may have.`,
        param: null,
        line: null,
      });
      break;
    }
    const read = readLine(line, endpoint);
    if (Array.isArray(read)) faults.push(...read);
    else {
      if (customIds.has(read.customId)) faults.push(duplicate(read.number));
      customIds.add(read.customId);
      if (models.size < 2) models.add(read.model);
    }
    if (faults.length >= faultsMax) {
      faults.length = faultsMax;
      break;
    }
  }
  if (total === 0 && faults.length === 0) {
    const message = "The batch file is empty. It must have at least one request.";
    faults.push({ code: "empty_file", message, param: null, line: null });
  }
  const [model] = models;
  return { total, model: models.size === 1 ? model : undefined, faults };
}

function duplicate(line: number): LineFault {
  return {
    code: "duplicate_custom_id",
    message:
      "The custom_id for this request is a duplicate of another request. The custom_id parameter must be unique for each request in a batch.",
    param: "custom_id",
    line,
  };
}

function toText(
  pieces: readonly Uint8Array[],
): { type: "text"; text: string } | { type: "not_text" } | { type: "blank" } {
  let text: string;
  try {
    text = utf8.decode(Buffer.concat(pieces));
  } catch {
    return { type: "not_text" };
  }
  return text.trim() === "" ? { type: "blank" } : { type: "text", text };
}

/** A byte order mark, which Windows puts before a file, is no part of it. */
const utf8 = new TextDecoder("utf-8", { fatal: true });

const lineFeed = 10;

const batchLine = z.looseObject({
  custom_id: z.string().min(1).max(512),
  method: z.literal("POST"),
  url: z.string(),
  body: z.looseObject({
    // No model has a NUL in its name, and the database's texts have none either.
    model: z
      .string()
      .min(1)
      .max(512)
      .refine((name) => !name.includes("\0"), "expected the name of a model"),
    stream: z.unknown().optional(),
    background: z.unknown().optional(),
  }),
});
