import { expect, test } from "vitest";
import type { Assessment } from "./assess.ts";
import { chooseRecipe, errorMax, formatIn, judgeRecipe } from "./choose.ts";
import { everyMatrix, type MatrixFormat, recipeDigest } from "./recipe.ts";
import type { Speed } from "./speeds.ts";

const formats: MatrixFormat[] = ["smooth", "block8x64"];
const sites = ["qkv", "o", "gateUp", "down"] as const;

/** Two layers; each site has a shape of its own. `errors` by site, relative, for both formats. */
function assess(errors: Record<string, [smooth: number, blocks: number]>) {
  const names = [0, 1].flatMap((layer) => sites.map((site) => `layer${layer}.${site}`));
  return new Map(
    [...names, "logits"].map((name): [string, Assessment] => {
      const site = name.split(".").at(-1) ?? "";
      const [smooth, blocks] = errors[site] ?? errors.other ?? [0, 0];
      const squares = { smooth: smooth ** 2, block8x64: blocks ** 2 };
      return [name, { in: 64, out: widths[site]!, errors: squares, divisors: new Float32Array() }];
    }),
  );
}
const widths: Record<string, number> = { qkv: 1, o: 2, gateUp: 3, down: 4, logits: 5 };

/** The same for every shape. */
function speeds(times: Partial<Record<MatrixFormat, number>>): Speed[] {
  return Object.entries(times).flatMap(([format, ms]) =>
    Object.values(widths).map((out) => ({
      in: 64,
      out,
      format: format as MatrixFormat,
      ms: [ms, ms, ms, ms],
    })),
  );
}

test("the quickest format is taken for all while the error allows it", () => {
  const assessments = assess({ other: [0.012, 0.01] });
  const times = speeds({ smooth: 1, block8x64: 2 });
  const recipe = chooseRecipe(assessments, times, { layers: 2, formats });
  expect(recipe).toEqual(everyMatrix(2, "smooth"));
  const judged = judgeRecipe(recipe, assessments, times);
  expect(judged.error).toBeCloseTo(0.012, 6);
  expect(judged.relativeTime).toBeCloseTo(1, 6);
  const slower = judgeRecipe(everyMatrix(2, "block8x64"), assessments, times);
  expect(slower.relativeTime).toBeCloseTo(2, 6);
});

test("matrices that err most for their time are the ones that change, until the error fits", () => {
  const assessments = assess({ o: [0.04, 0.01], other: [0.012, 0.011] });
  const times = speeds({ smooth: 1, block8x64: 2 });
  const recipe = chooseRecipe(assessments, times, { layers: 2, formats });
  for (const layer of [0, 1]) {
    expect(formatIn(recipe, `layer${layer}.o`)).toBe("block8x64");
    expect(formatIn(recipe, `layer${layer}.qkv`)).toBe("smooth");
  }
  expect(recipe.logits).toBe("smooth");
  expect(judgeRecipe(recipe, assessments, times).error).toBeLessThanOrEqual(errorMax);
});

test("where no format errs little enough, each matrix has the one that errs least", () => {
  const assessments = assess({ other: [0.5, 0.3] });
  const times = speeds({ smooth: 1, block8x64: 2 });
  const recipe = chooseRecipe(assessments, times, { layers: 2, formats });
  expect(recipe).toEqual(everyMatrix(2, "block8x64"));
});

test("a recipe's name depends on what it says and on nothing else", () => {
  const recipe = everyMatrix(2, "smooth");
  const { logits, layers, embedding } = recipe;
  expect(recipeDigest({ layers: [...layers], embedding, logits })).toBe(recipeDigest(recipe));
  const [first, second] = layers;
  const other = { ...recipe, layers: [first!, { ...second!, down: "block8x64" as const }] };
  expect(recipeDigest(other)).not.toBe(recipeDigest(recipe));
});
