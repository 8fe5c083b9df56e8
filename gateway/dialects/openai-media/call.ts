/** What all requests for images and audio have in common: they pass as they came, and are billed in their own ways. */
import { z } from "zod";
import { HubError, parseOrThrow } from "../../../sdk/protocol/errors.ts";
import type { GatewayLimits } from "../../config.ts";
import type { Form, Forms } from "../../http/form.ts";
import { mayLoseNumbers } from "../../http/json-text.ts";
import type { MediaFormatName } from "../../providers/format.ts";
import type { Call, Dialect } from "../dialect.ts";
import { openAiChat } from "../openai-chat/index.ts";
import { cannotPass, readJson } from "../openai-passing/request.ts";

export type MediaParts = { limits: GatewayLimits; forms: Forms };

/** Errors, also those in a stream, are told as a chat's are. */
export function mediaDialect(format: MediaFormatName): Dialect {
  return { ...openAiChat, format };
}

/** What came, whichever way it came: a form's texts are read as JSON's fields. */
export type Came = {
  fields: Readonly<Record<string, unknown>>;
  /** The texts' bytes. */
  bytes: number;
  source?: Call["source"];
  form?: Form;
};

/** @throws HubError as `readJson` does */
export async function readJsonFields(request: Request, { limits }: MediaParts): Promise<Came> {
  const { value, text, bytes } = await readJson(request, limits);
  const fields = parseOrThrow(z.record(z.string(), z.unknown()), value);
  return { fields, bytes, ...(mayLoseNumbers(text) && { source: { value: fields, text } }) };
}

/** @throws HubError as `Forms.read` does */
export async function readFormFields(request: Request, { forms }: MediaParts): Promise<Came> {
  const form = await forms.read(request);
  const texts = [...form.fields];
  return {
    form,
    fields: Object.fromEntries(texts.map(([name, values]) => [name, values.at(-1)])),
    bytes: texts.flat(2).reduce((sum, text) => sum + Buffer.byteLength(text), 0),
  };
}

export function isForm(request: Request): boolean {
  return /^multipart\/form-data\b/i.test(request.headers.get("content-type") ?? "");
}

/** Reads what came, and lets go of a form that is none of what was expected. */
export async function readMediaCall(
  came: Came,
  dialect: Dialect,
  toCall: () => Pick<Call, "tariffs" | "measure"> &
    Partial<Omit<Call, "texts">> & { texts: string[]; unread?: number },
): Promise<Call> {
  const { fields, bytes, source, form } = came;
  try {
    const { model } = parseOrThrow(named, fields);
    const { texts, unread = 0, ...own } = toCall();
    const shown = {
      system: "",
      user: texts.join("\n"),
      all: texts,
      schemas: "",
      unread: () => unread,
    };
    return {
      dialect,
      model,
      body: fields,
      ...(source && { source }),
      ...(form && { form }),
      bodyBytes: bytes,
      stream: false,
      wantsUsage: false,
      outputTokensMax: undefined,
      choices: 1,
      metadata: undefined,
      images: () => 0,
      canonical() {
        throw cannotPass(dialect.format);
      },
      ...own,
      texts: () => shown,
    };
  } catch (error) {
    await form?.close();
    throw error;
  }
}

/** @throws HubError `missing_required_parameter` */
export function requireFiles(form: Form | undefined, name: RegExp, param: string): void {
  if (form?.files.some((file) => name.test(file.name))) return;
  throw new HubError("missing_required_parameter", `Missing required parameter: '${param}'.`, {
    param,
  });
}

const named = z.looseObject({ model: z.string().min(1).max(512) });

/** A form's texts are numbers and truths too. */
export const formCount = z.coerce.number().pipe(z.int().min(1).max(128)).nullish();
export const formTruth = z
  .union([z.boolean(), z.enum(["true", "false", "1", "0"])])
  .nullish()
  .transform((value) => value === true || value === "true" || value === "1");

/** Four bytes to a token, as in English. */
export function guessTokens(bytes: number): number {
  return Math.ceil(bytes / 4);
}
