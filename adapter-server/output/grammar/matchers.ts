/** Grammars over a vocabulary, and how far each text has got in its own: what runs in the mask thread. */
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from "@mlc-ai/web-xgrammar";
import { invariant } from "../../../sdk/protocol/errors.ts";
import { asciiWords, byteLevelWords, type Vocabulary } from "./vocabulary.ts";
import { loadXgrammar, type Xgrammar } from "./xgrammar.ts";

/** A grammar in xgrammar's EBNF; `ascii` ones are written over the alphabet of `ascii-bytes.ts`, `text` ones over Unicode. */
export type Grammar = { alphabet: "ascii" | "text"; ebnf: string };

export type MatchersOptions = {
  vocabulary: Vocabulary;
  /** Tokens that end an answer; they are allowed where the grammar is complete. */
  endTokenIds: readonly number[];
  /** Compiled grammars that are kept, those in use aside. */
  grammarsMax: number;
};

type Compiled = { grammar: CompiledGrammar; users: number };

export class Matchers {
  readonly #xgrammar: Xgrammar;
  readonly #options: MatchersOptions;
  readonly #compilers = new Map<Grammar["alphabet"], GrammarCompiler>();
  /** The one unused longest first. */
  readonly #compiled = new Map<string, Compiled>();
  readonly #matchers = new Map<number, { matcher: GrammarMatcher; key: string }>();

  constructor(options: MatchersOptions) {
    this.#xgrammar = loadXgrammar();
    this.#options = options;
  }

  /**
   * Begins a text, which may have got somewhere already.
   * @throws when the grammar cannot be read, after which xgrammar's instance is broken
   */
  async open(id: number, grammar: Grammar, said: readonly number[]): Promise<void> {
    const key = keyOf(grammar);
    const compiled = await this.#compile(key, grammar);
    const matcher = await this.#xgrammar.GrammarMatcher.createGrammarMatcher(compiled.grammar);
    compiled.users++;
    this.#matchers.set(id, { matcher, key });
    for (const token of said) this.accept(id, token);
  }

  /** @returns false when the grammar does not allow the token */
  accept(id: number, token: number): boolean {
    return this.#matcher(id).acceptToken(token);
  }

  /** A bit for each token that may come next, 32 to a word; none when the text has ended. */
  async mask(id: number): Promise<Int32Array | undefined> {
    const matcher = this.#matcher(id);
    return matcher.isTerminated() ? undefined : await matcher.getNextTokenBitmask();
  }

  close(id: number): void {
    const open = this.#matchers.get(id);
    if (!open) return;
    open.matcher.dispose();
    this.#matchers.delete(id);
    const compiled = this.#compiled.get(open.key);
    invariant(compiled, "a grammar that is matched is kept");
    compiled.users--;
    this.#evict();
  }

  #matcher(id: number): GrammarMatcher {
    const open = this.#matchers.get(id);
    invariant(open, "a text is matched between its begin and its end");
    return open.matcher;
  }

  async #compile(key: string, { alphabet, ebnf }: Grammar): Promise<Compiled> {
    const known = this.#compiled.get(key);
    if (known) {
      this.#compiled.delete(key);
      this.#compiled.set(key, known);
      return known;
    }
    const compiler = await this.#compilerFor(alphabet);
    const parsed = await this.#xgrammar.Grammar.fromEBNF(ebnf);
    const compiled = { grammar: await compiler.compileGrammar(parsed), users: 0 };
    parsed.dispose();
    this.#compiled.set(key, compiled);
    this.#evict();
    return compiled;
  }

  async #compilerFor(alphabet: Grammar["alphabet"]): Promise<GrammarCompiler> {
    const known = this.#compilers.get(alphabet);
    if (known) return known;
    const { GrammarCompiler, TokenizerInfo } = this.#xgrammar;
    const { vocabulary, endTokenIds } = this.#options;
    const [words, type] =
      alphabet === "ascii"
        ? [asciiWords(vocabulary), "raw"]
        : [byteLevelWords(vocabulary), "byte_level"];
    const info = await TokenizerInfo.createTokenizerInfo(words, type, false, words.length, [
      ...endTokenIds,
    ]);
    // Its own cache has no bound.
    const compiler = await GrammarCompiler.createGrammarCompiler(info, false);
    this.#compilers.set(alphabet, compiler);
    return compiler;
  }

  #evict(): void {
    for (const [key, compiled] of this.#compiled) {
      if (this.#compiled.size <= this.#options.grammarsMax) return;
      if (compiled.users > 0) continue;
      compiled.grammar.dispose();
      this.#compiled.delete(key);
    }
  }
}

export function keyOf({ alphabet, ebnf }: Grammar): string {
  return `${alphabet}\n${ebnf}`;
}
