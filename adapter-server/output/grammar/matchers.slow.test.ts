/** What grammars take of WebAssembly's memory is given back: a thousand of them fit where a few do. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { demoFolder } from "../../__fixtures__/demo-model.ts";
import { createTokenizer } from "../../models/tokenizer.ts";
import { newGrammarText } from "./__fixtures__/grammar-text.ts";
import { Matchers } from "./matchers.ts";
import { limitMemory } from "./memory-limit.ts";
import { schemaExpression } from "./schema-grammar.ts";
import { toVocabulary } from "./vocabulary.ts";

const read = (name: string) => JSON.parse(readFileSync(join(demoFolder, "base", name), "utf8"));
const tokenizer = createTokenizer({
  tokenizer: read("tokenizer.json"),
  config: read("tokenizer_config.json"),
});

test("grammars that are in use are kept, however few may be kept beside them", async () => {
  const vocabulary = toVocabulary(tokenizer, 4096);
  const matchers = new Matchers({ vocabulary, endTokenIds: [2], grammarsMax: 1 });
  const [a = 0] = tokenizer.encode("a");
  for (const id of [1, 2, 3]) await matchers.open(id, { ebnf: `root ::= "a"{${id}}` }, []);
  for (const id of [1, 2, 3]) {
    expect(matchers.accept(id, a)).toBe(true);
    expect(matchers.accept(id, a)).toBe(id > 1);
  }
});

test("a thousand grammars, each matched over some tokens, take no more memory than a few", async () => {
  // What it begins with is 16 MiB; nothing here may make it grow by more than half of that.
  limitMemory(24 << 20);
  const vocabulary = toVocabulary(tokenizer, 4096);
  const matchers = new Matchers({ vocabulary, endTokenIds: [2], grammarsMax: 4 });
  for (let round = 0; round < 1000; round++) {
    const text = newGrammarText();
    const schema = {
      type: "object",
      properties: { [`key${round}`]: { type: "string", maxLength: 5 }, n: { type: "integer" } },
    };
    const grammar = text.grammar(schemaExpression(schema, text, "schema"));
    await matchers.open(round, grammar, tokenizer.encode(`{"key${round}":"a`));
    const mask = await matchers.mask(round);
    expect(mask?.some((word) => word !== 0)).toBe(true);
    matchers.close(round);
  }
});
