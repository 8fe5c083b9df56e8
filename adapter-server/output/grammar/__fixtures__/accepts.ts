/** Asks xgrammar itself what a grammar of ours takes, for tests. */
import { toAscii } from "../ascii-bytes.ts";
import type { Grammar } from "../matchers.ts";
import { loadXgrammar } from "../xgrammar.ts";

const xgrammar = loadXgrammar();

/** @returns for each text whether it is one that the grammar allows, from its first character to its end */
export async function accepts({ ebnf }: Grammar, texts: readonly string[]): Promise<boolean[]> {
  const grammar = await xgrammar.Grammar.fromEBNF(ebnf);
  const answers: boolean[] = [];
  for (const text of texts) {
    const ascii = toAscii(new TextEncoder().encode(text));
    answers.push(await xgrammar.Testings.isGrammarAcceptString(grammar, ascii));
  }
  grammar.dispose();
  return answers;
}
