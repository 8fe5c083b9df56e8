import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compilePattern, compileTailPattern, ModulePatternError } from "./module-pattern.ts";

const path = "model.layers.2.self_attn.q_proj";

describe("patterns over module paths", () => {
  test.each([
    [".*q_proj", true],
    [".*layers\\.(0|2)\\.(self_attn\\.(q|v)_proj|mlp\\.up_proj)", true],
    ["(?P<pre>.*)\\.(?P<m>[qv])_proj\\Z", true],
    ["(?:.*\\.)?self_attn\\.[qkvo]_proj", true],
    ["^model\\.layers\\.\\d+\\.[\\w.]+$", true],
    ["q_proj", false],
    [".*layers\\.[^2]\\..*", false],
    [".*layers\\.[3-9]\\..*", false],
    ["model$.*", false],
    ["(a|b|)*", false],
  ])("%s matches the whole path: %s", (pattern, matches) => {
    expect(compilePattern(pattern)(path)).toBe(matches);
  });

  test.each(["(q_proj", "q_proj)", "[a", "*a", "a**", "a{2}", "(?=a)", "\\b", "a\\", "[b-a]"])(
    "%s is refused with a reason",
    (pattern) => {
      expect(() => compilePattern(pattern)).toThrow(ModulePatternError);
    },
  );

  test("a tail pattern begins at a dot or at the start", () => {
    expect(compileTailPattern("self_attn.q_proj")(path)).toBe(true);
    expect(compileTailPattern("attn.q_proj")(path)).toBe(false);
    expect(compileTailPattern(".*\\.2\\.self_attn\\.(q|v)_proj")(path)).toBe(true);
    expect(compileTailPattern("^layers.*")(path)).toBe(false);
  });

  test("a pattern that makes backtracking engines hang reads each character once", () => {
    const steps = { count: 0 };
    const counted = compilePattern("(([a-z0-9_.])+)+\\$");
    const long = new Proxy(Object("a".repeat(5000)), {
      get(target, key) {
        if (key === "length") return 5000;
        steps.count++;
        return (index: number) => target.charCodeAt(index);
      },
    });
    expect(counted(long)).toBe(false);
    expect(steps.count).toBe(5000);
  });

  test("agrees with JavaScript's engine on random small patterns", () => {
    const atom = fc.constantFrom("a", "b", ".", "[ab]", "[^a]", "(a|b)", "(ab)", "(|a)");
    const piece = fc
      .tuple(atom, fc.constantFrom("", "", "*", "+", "?"))
      .map((parts) => parts.join(""));
    const pattern = fc
      .array(fc.array(piece, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 3 })
      .map((ways) => ways.map((way) => way.join("")).join("|"));
    const text = fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 8 }).map((x) => x.join(""));
    fc.assert(
      fc.property(pattern, text, (source, input) => {
        expect(compilePattern(source)(input)).toBe(new RegExp(`^(?:${source})$`).test(input));
      }),
      { numRuns: 1000 },
    );
  });
});
