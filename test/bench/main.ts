/** `npm run bench -- NAME`: repeats a claim of the README as a ratio against a peer, in one run. */
const benches: Record<string, () => Promise<{ run(args: readonly string[]): Promise<void> }>> = {
  accuracy: () => import("./accuracy.ts"),
  adapters: () => import("./adapters/main.ts"),
  dialects: () => import("./dialects/main.ts"),
  engine: () => import("./engine/main.ts"),
  gateway: () => import("./gateway/main.ts"),
  keys: () => import("./keys.ts"),
  "prefix-cache": () => import("./prefix-cache.ts"),
  start: () => import("./start.ts"),
};

const name = process.argv[2];
const load = name === undefined ? undefined : benches[name];
if (!load) {
  console.error(
    `usage: npm run bench -- NAME, where NAME is one of: ${Object.keys(benches).join(", ")}`,
  );
  process.exitCode = 2;
} else {
  const bench = await load();
  await bench.run(process.argv.slice(3));
  process.exit();
}
