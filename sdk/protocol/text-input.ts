/** What a prompt may be: a text or some, a text's tokens or those of some. */
import { z } from "zod";

export type TextInput = string | string[] | number[] | number[][];

/** Checked in plain loops: a schema looks at each of a hundred thousand tokens for longer than others can wait. */
export const textInput = z.unknown().transform((value, context): TextInput => {
  if (isTextInput(value)) return value;
  context.issues.push({
    code: "invalid_type",
    expected: "string",
    input: value,
    ...(value !== undefined && {
      message: "expected a text, texts, a text's tokens, or those of several",
    }),
  });
  return z.NEVER;
});

function isTextInput(value: unknown): value is TextInput {
  if (typeof value === "string") return true;
  if (!Array.isArray(value) || value.length === 0) return false;
  return value.every(isText) || isTokens(value) || value.every(isTokens);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isTokens(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every(isToken);
}

function isToken(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}
