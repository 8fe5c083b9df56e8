/** A grammar to write into, within the limits that a server has by default. */
import { serverLimits } from "../../../config.ts";
import { GrammarText } from "../grammar-text.ts";

export function newGrammarText(grammarCharsMax?: number): GrammarText {
  const limits = serverLimits.parse({});
  return new GrammarText({
    ...limits,
    grammarCharsMax: grammarCharsMax ?? limits.grammarCharsMax,
  });
}
