/** Many words at once, in one pass: an Aho–Corasick automaton, so that no list and no text makes it slow. */
import { type Detector, type Match, withoutOverlaps } from "./detector.ts";

/**
 * @param whole whether letters and digits may not touch a word
 * @see Aho and Corasick, Efficient string matching, CACM 18(6), 1975
 */
export function wordsDetector(words: readonly string[], { whole }: { whole: boolean }): Detector {
  // Accents stand in a letter or after it.
  const root = build(words.flatMap((word) => [word, word.normalize("NFC"), word.normalize("NFD")]));
  return {
    find(text, from) {
      const found: Match[] = [];
      let node = root;
      for (let at = from; at < text.length; at++) {
        node = step(node, fold(text[at] as string), root);
        // The node's own word, and shorter ones that end where it does.
        for (
          let ends: Node | undefined = node.wordLength > 0 ? node : node.ends;
          ends;
          ends = ends.ends
        ) {
          const [start, end] = [at + 1 - ends.wordLength, at + 1];
          if (!whole || isWhole(text, start, end)) found.push({ start, end, kind: "WORD" });
        }
      }
      return withoutOverlaps(found);
    },
    openFrom(text, from) {
      let node = root;
      for (let at = from; at < text.length; at++) node = step(node, fold(text[at] as string), root);
      return text.length - node.depth;
    },
  };
}

type Node = {
  next: Map<string, Node>;
  fail: Node | undefined;
  depth: number;
  /** Of the word that ends here; 0 for none. */
  wordLength: number;
  /** The nearest shorter word that ends here too. */
  ends: Node | undefined;
};

function build(words: readonly string[]): Node {
  const newNode = (depth: number): Node => ({
    next: new Map(),
    fail: undefined,
    depth,
    wordLength: 0,
    ends: undefined,
  });
  const root = newNode(0);
  for (const word of words) {
    let node = root;
    for (let at = 0; at < word.length; at++) {
      const char = fold(word[at] as string);
      const next = node.next.get(char) ?? newNode(at + 1);
      node.next.set(char, next);
      node = next;
    }
    node.wordLength = word.length;
  }
  const queue = [...root.next.values()];
  for (const child of queue) child.fail = root;
  for (const node of queue) {
    for (const [char, child] of node.next) {
      const fail = step(node.fail ?? root, char, root);
      child.fail = fail;
      child.ends = fail.wordLength > 0 ? fail : fail.ends;
      queue.push(child);
    }
  }
  return root;
}

function step(from: Node, char: string, root: Node): Node {
  for (let node: Node | undefined = from; node; node = node.fail) {
    const next = node.next.get(char);
    if (next) return next;
  }
  return root;
}

/** One unit stays one unit, so that places in the text stay what they are. */
function fold(char: string): string {
  const lower = char.toLowerCase();
  return lower.length === 1 ? lower : char;
}

function isWhole(text: string, start: number, end: number): boolean {
  return !isOfWord(text[start - 1]) && !isOfWord(text[end]);
}

function isOfWord(char: string | undefined): boolean {
  return char !== undefined && /[\p{L}\p{N}_]/u.test(char);
}
