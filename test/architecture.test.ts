/** Who may import whom, as a table. A new edge is a line here and a record in `docs/adr`. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");

/** Folder → what its files may import beside npm packages and themselves. */
const allowed: Record<string, readonly string[]> = {
  "sdk/protocol": [],
  "sdk/client": ["sdk/protocol"],
  "sdk/cli": ["sdk/protocol", "sdk/client"],
  gateway: ["sdk/protocol"],
  "adapter-server": ["sdk/protocol"],
  registry: ["sdk/protocol"],
  evals: ["sdk/protocol"],
  deploy: [
    "sdk/protocol",
    "sdk/client",
    "sdk/cli",
    "gateway",
    "adapter-server",
    "registry",
    "evals",
    "test/emulators",
  ],
  test: [
    "sdk/protocol",
    "sdk/client",
    "sdk/cli",
    "gateway",
    "adapter-server",
    "registry",
    "evals",
    "deploy",
  ],
};
const folders = Object.keys(allowed);
/** Tests beside the code may use the shared test support and the emulated upstreams. */
const testSupport = ["test/support/", "test/emulators/"];

test("each folder imports only what the table allows", () => {
  const broken = folders
    .flatMap((folder) => sourceFiles(join(root, folder)).map((file) => ({ folder, file })))
    .flatMap(({ folder, file }) => imports(file).map((specifier) => ({ folder, file, specifier })))
    .filter(({ specifier }) => isRelative(specifier))
    .filter(({ folder, file, specifier }) => {
      const target = relative(root, resolve(dirname(file), specifier))
        .split(sep)
        .join("/");
      if (testSupport.some((to) => target.startsWith(to)) && file.endsWith(".test.ts"))
        return false;
      if (target === "package.json") return false;
      return ![folder, ...(allowed[folder] ?? [])].some((to) => target.startsWith(`${to}/`));
    })
    .map(({ file, specifier }) => `${relative(root, file)} imports ${specifier}`);
  expect(broken).toEqual([]);
});

test("sdk/protocol stands on zod alone", () => {
  const foreign = sourceFiles(join(root, "sdk/protocol"))
    .filter((file) => !file.endsWith(".test.ts"))
    .flatMap((file) => imports(file).map((specifier) => ({ file, specifier })))
    .filter(({ specifier }) => !isRelative(specifier) && specifier !== "zod")
    .map(({ file, specifier }) => `${relative(root, file)} imports ${specifier}`);
  expect(foreign).toEqual([]);
});

test("relative imports name the file they mean", () => {
  const bare = folders
    .flatMap((folder) => sourceFiles(join(root, folder)))
    .flatMap((file) => imports(file).map((specifier) => ({ file, specifier })))
    .filter(({ specifier }) => isRelative(specifier) && !/\.(ts|json)$/.test(specifier))
    .map(({ file, specifier }) => `${relative(root, file)} imports ${specifier}`);
  expect(bare).toEqual([]);
});

const isRelative = (specifier: string) => /^\.{1,2}\//.test(specifier);

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !name.includes("node_modules"))
    .map((name) => join(folder, name));
}

/** Static, re-exporting and literal dynamic imports. */
function imports(file: string): string[] {
  const source = readFileSync(file, "utf8");
  return [...source.matchAll(/(?:\bfrom|\bimport\s*\(|^\s*import)\s*["']([^"']+)["']/gm)].map(
    (match) => match[1] ?? "",
  );
}
