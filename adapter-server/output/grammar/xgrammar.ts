/** Loads xgrammar's WebAssembly build, whose package runs as neither of Node's two kinds of module. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { invariant } from "../../../sdk/protocol/errors.ts";

export type Xgrammar = typeof import("@mlc-ai/web-xgrammar");

/**
 * The package calls itself an ES module and holds a script that wants `require` and `exports` (0.1.27), so it is
 * compiled here as the function that such scripts are. Each call makes an instance with a memory of its own.
 * What it cannot read it aborts on, and is of no use afterwards.
 */
export function loadXgrammar(): Xgrammar {
  const path = fileURLToPath(import.meta.resolve("@mlc-ai/web-xgrammar"));
  const script = vm.compileFunction(
    readFileSync(path, "utf8"),
    ["exports", "require", "module", "__filename"],
    {
      filename: path,
      importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    },
  );
  const exported: Partial<Xgrammar> = {};
  script.call(globalThis, exported, createRequire(path), { exports: exported }, path);
  invariant(isWhole(exported), "the package has what we use");
  return exported;
}

function isWhole(exported: Partial<Xgrammar>): exported is Xgrammar {
  return exported.GrammarMatcher !== undefined && exported.GrammarCompiler !== undefined;
}
