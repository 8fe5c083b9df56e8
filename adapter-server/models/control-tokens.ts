/**
 * Keeps control tokens such as `<|im_end|>` to the chat template: text that a client wrote is never read as one.
 *
 * Two characters that Unicode reserves for such inner use do it. `quote` puts a mark inside of every control
 * token's text that a message contains; the template then writes its own ones whole. `resolve` turns whole
 * ones into names that no text can contain, and takes the marks out again. Only the names are known to the
 * tokenizer, so a client's `<|im_end|>` is encoded as the letters that it is.
 */
import { z } from "zod";

export type ControlTokens = {
  /** The same text, as something said and not meant. */
  quote(text: string): string;
  /** Whole control tokens by their names, and quoted ones as plain text. */
  resolve(text: string): string;
  /** The texts of control tokens in place of their names. */
  restore(text: string): string;
  /** Ids of control tokens: what a decoder leaves out. */
  ids: ReadonlySet<number>;
  /** The tokenizer's file with the names in place of the texts. */
  tokenizer: Record<string, unknown>;
};

/**
 * @param tokenizer  the parsed `tokenizer.json`
 * @param config     the parsed `tokenizer_config.json`
 */
export function controlTokens(tokenizer: unknown, config: unknown): ControlTokens {
  const file = tokenizerFile.parse(tokenizer);
  const { additional_special_tokens } = tokenizerConfig.parse(config);
  const additional = new Set(additional_special_tokens?.map(textOf));
  const isControl = (token: AddedToken) => token.special || additional.has(token.content);
  const control = file.added_tokens.filter((token) => isControl(token) && token.content !== "");

  const nameByText = new Map(
    control.map(({ content, id }) => [content, `${bracket}${id}${bracket}`]),
  );
  const textByName = new Map([...nameByText].map(([text, name]) => [name, text]));
  const anyName = new RegExp(`${bracket}\\d+${bracket}`, "g");
  // Where one begins with another, the longer is meant.
  const texts = [...nameByText.keys()].sort((a, b) => b.length - a.length);
  const anyText = new RegExp(texts.map(escapeRegExp).join("|") || "(?!)", "g");
  const split = (text: string) => text.slice(0, 1) + mark + text.slice(1);
  return {
    ids: new Set(control.map(({ id }) => id)),
    quote: (text) => text.replaceAll(reserved, "").replace(anyText, split),
    resolve: (text) =>
      text
        .replaceAll(bracket, "")
        .replace(anyText, (found) => nameByText.get(found) ?? found)
        .replaceAll(mark, ""),
    restore: (text) => text.replace(anyName, (name) => textByName.get(name) ?? name),
    tokenizer: {
      ...file,
      model: withoutTexts(file.model, nameByText),
      // What it sets at the start and end of a text it looks up by the text of a token.
      post_processor: renamed(file.post_processor, nameByText),
      added_tokens: file.added_tokens.map((token) =>
        isControl(token)
          ? // Found as it stands: what a normalizer makes of a client's text must not become one either.
            { ...token, content: nameByText.get(token.content) ?? token.content, normalized: false }
          : token,
      ),
    },
  };
}

/**
 * Vocabularies list control tokens with the words, where a word that stands alone would be found. What is
 * unknown is looked up there by its text, and ends no turn.
 */
function withoutTexts({ vocab, ...model }: Model, names: ReadonlyMap<string, string>): Model {
  const isWord = (text: string) => !names.has(text) || text === model.unk_token;
  if (Array.isArray(vocab)) {
    // A piece's place is its id, so it keeps its place under its name.
    const rename = ([text, score]: [string, number]): [string, number] =>
      isWord(text) ? [text, score] : [names.get(text) ?? text, score];
    return { ...model, vocab: vocab.map(rename) };
  }
  return {
    ...model,
    vocab: Object.fromEntries(Object.entries(vocab).filter(([text]) => isWord(text))),
  };
}

/** Texts of control tokens by their names, wherever they stand as a value of their own. */
function renamed(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (typeof value === "string") return names.get(value) ?? value;
  if (Array.isArray(value)) return value.map((one) => renamed(one, names));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, renamed(one, names)]));
}

function textOf(token: string | { content: string }): string {
  return typeof token === "string" ? token : token.content;
}

function escapeRegExp(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\/-]/g, "\\$&");
}

const mark = "\ufdd0";
const bracket = "\ufdd1";
const reserved = /[\ufdd0\ufdd1]/g;

const addedToken = z.looseObject({
  id: z.int().nonnegative(),
  content: z.string(),
  special: z.boolean().default(false),
});
type AddedToken = z.infer<typeof addedToken>;
const model = z.looseObject({
  vocab: z.union([z.array(z.tuple([z.string(), z.number()])), z.record(z.string(), z.number())]),
  unk_token: z.string().nullish(),
});
type Model = z.infer<typeof model>;
const tokenizerFile = z.looseObject({ model, added_tokens: z.array(addedToken).default([]) });
const tokenizerConfig = z.looseObject({
  additional_special_tokens: z
    .array(z.union([z.string(), z.looseObject({ content: z.string() })]))
    .nullish(),
});
