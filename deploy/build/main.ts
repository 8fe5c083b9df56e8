/** `npm run build`: compiles everything to `dist` and lays beside it what the programs read while they run. */
import { spawnSync } from "node:child_process";
import { cpSync, readdirSync, rmSync } from "node:fs";
import { extname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const dist = join(root, "dist");

rmSync(dist, { recursive: true, force: true });
const compiler = spawnSync(
  process.execPath,
  [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"],
  { cwd: root, stdio: "inherit" },
);
if (compiler.status !== 0) process.exit(compiler.status ?? 1);

const files = ["gateway", "adapter-server", "registry", "evals", "sdk", "deploy"].flatMap(
  (folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)))
      .filter(isRead),
);
for (const file of files) cpSync(join(root, file), join(dist, file));
console.log(`built dist: start it with 'node dist/deploy/all-in-one/main.js'`);

/** Migrations, settings, the dashboard's assets, the demo model, the command's entry: all that is not source. */
function isRead(file: string): boolean {
  return (
    ![".ts", ".mjs", ".md"].includes(extname(file)) && !file.split(sep).includes("__fixtures__")
  );
}
