/** The compliance cases of Open Responses, as they are run against any server that says it speaks it: over HTTP and WebSockets. */
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { count, type Suite, type Test, versionIn } from "./suite.ts";
import { folderOf, installFromNpm, lastLine, run, sourceOf } from "./workshop.ts";

export const openResponses: Suite = {
  name: "open-responses",
  async run({ url, apiKey, env }) {
    const source = await sourceOf("openresponses/openresponses", "OPEN_RESPONSES_SOURCE");
    const folder = await folderOf("open-responses");
    await installFromNpm(folder, { zod: "^3.25", tsx: "^4", ws: "^8" });
    for (const part of ["bin", "src/lib", "src/generated", "package.json"]) {
      await cp(join(source, part), join(folder, "repository", part), { recursive: true });
    }
    await writeFile(join(folder, "bun.mjs"), asBunHasIt);
    const tests: Test[] = [];
    for (const model of [...(env.SWITCHYARD_MODELS ?? "").split(","), env.SWITCHYARD_BASE ?? ""]) {
      const asked = ["--base-url", `${url}/v1`, "--api-key", apiKey, "--model", model, "--json"];
      const imports = ["--import", "./bun.mjs", "--import", "tsx"];
      const program = "repository/bin/compliance-test.ts";
      const ran = await run([process.execPath, ...imports, program, ...asked], { folder });
      tests.push(...readReport(ran, model));
    }
    return count(tests, await versionIn(source, "package.json"));
  },
};

type Report = { results: { name: string; status: string; errors?: string[] }[] };

function readReport({ stdout, stderr }: { stdout: string; stderr: string }, model: string): Test[] {
  let report: Report;
  try {
    report = JSON.parse(stdout);
  } catch {
    const error = lastLine(stderr) || lastLine(stdout);
    return [{ name: `${model}: runs to its end`, about: model, error }];
  }
  return report.results.map(({ name, status, errors = [] }) => ({
    name: `${model}: ${name}`,
    about: `${name} by ${model}`,
    error: status === "passed" ? undefined : `${status}: ${errors.join("; ")}`,
  }));
}

/** It is written for Bun, whose `WebSocket` takes headers, and which has written everything when it exits. */
const asBunHasIt = `import { WebSocket } from "ws";
globalThis.WebSocket = WebSocket;
process.stdout._handle?.setBlocking?.(true);
`;
