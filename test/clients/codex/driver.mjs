/** OpenAI's Codex as a black box: it is asked to run a command, runs it, and tells what came of it. */
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { assert, check, models } from "./checks.mjs";
import { config } from "./connect.mjs";

for (const model of models) {
  await check(`${model}: a command that the model asks for is run and told of`, async () => {
    const home = join(process.cwd(), "home", model);
    const work = join(home, "work");
    await mkdir(work, { recursive: true });
    await writeFile(join(home, "config.toml"), config(model));
    const program = join(process.cwd(), "node_modules/.bin/codex");
    const asked = ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"];
    const running = promisify(execFile)(program, [...asked, "Please run: echo hi42"], {
      cwd: work,
      env: { ...process.env, CODEX_HOME: home, HOME: home },
      timeout: 120_000,
    });
    running.child.stdin.end();
    const { stdout } = await running;
    assert.match(stdout, /The tools say: [\s\S]*hi42/);
  });
}
