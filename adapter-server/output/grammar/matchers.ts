/** Grammars over a vocabulary, and how far each text has got in its own: what runs in the mask thread. */
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from "@mlc-ai/web-xgrammar";
import { invariant } from "../../../sdk/protocol/errors.ts";
import { asciiWords, type Vocabulary } from "./vocabulary.ts";
import { loadXgrammar, type Xgrammar } from "./xgrammar.ts";

/** In xgrammar's EBNF, over the alphabet of `ascii-bytes.ts`; `grammar-text.ts` writes them. */
export type Grammar = { ebnf: string };

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
  #compiler: GrammarCompiler | undefined;
  /** The one unused longest first. */
  readonly #compiled = new Map<string, Compiled>();
  readonly #matchers = new Map<number, { matcher: GrammarMatcher; key: string }>();

  constructor(options: MatchersOptions) {
    this.#xgrammar = loadXgrammar();
    this.#options = options;
  }

  /** Loads the package and tells it the vocabulary, which the first text would wait for otherwise. */
  async prepare(): Promise<void> {
    this.#compiler ??= await this.#newCompiler();
  }

  /**
   * Begins a text, which may have got somewhere already.
   * @returns whether the grammar had to be compiled
   * @throws when the grammar cannot be read, after which xgrammar's instance is broken
   */
  async open(id: number, grammar: Grammar, said: readonly number[]): Promise<boolean> {
    const key = grammar.ebnf;
    const isNew = !this.#compiled.has(key);
    const compiled = await this.#compile(grammar);
    // In use from here on, so that it is kept where all others are in use too.
    compiled.users++;
    this.#evict();
    const matcher = await this.#xgrammar.GrammarMatcher.createGrammarMatcher(compiled.grammar);
    this.#matchers.set(id, { matcher, key });
    for (const token of said) this.accept(id, token);
    return isNew;
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

  /** Takes back the last tokens that were accepted, none of which ended the text. */
  rollBack(id: number, tokens: number): void {
    this.#matcher(id).rollBack(tokens);
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

  async #compile({ ebnf }: Grammar): Promise<Compiled> {
    const known = this.#compiled.get(ebnf);
    if (known) {
      this.#compiled.delete(ebnf);
      this.#compiled.set(ebnf, known);
      return known;
    }
    this.#compiler ??= await this.#newCompiler();
    const parsed = await this.#xgrammar.Grammar.fromEBNF(ebnf);
    const compiled = { grammar: await this.#compiler.compileGrammar(parsed), users: 0 };
    parsed.dispose();
    this.#compiled.set(ebnf, compiled);
    return compiled;
  }

  async #newCompiler(): Promise<GrammarCompiler> {
    const { GrammarCompiler, TokenizerInfo } = this.#xgrammar;
    const words = asciiWords(this.#options.vocabulary);
    const ends = [...this.#options.endTokenIds];
    const info = await TokenizerInfo.createTokenizerInfo(words, "raw", false, words.length, ends);
    // Its own cache has no bound.
    return GrammarCompiler.createGrammarCompiler(info, false);
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
