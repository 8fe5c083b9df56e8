/** opencode as a black box: it is asked to run a command, runs it, and tells what came of it. */
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { assert, check, models } from "./checks.mjs";
import { config } from "./connect.mjs";

// npm may be told to run no scripts of packages; this one puts the program in its place.
const postinstall = join(process.cwd(), "node_modules/opencode-ai/postinstall.mjs");
await promisify(execFile)(process.execPath, [postinstall]);

const home = join(process.cwd(), "home");
const work = join(home, "work");
await mkdir(work, { recursive: true });
const file = join(home, "opencode.json");
await writeFile(file, JSON.stringify({ ...config(models), permission: { bash: "allow" } }));

for (const model of models) {
  await check(`${model}: a command that the model asks for is run and told of`, async () => {
    const program = join(process.cwd(), "node_modules/.bin/opencode");
    const asked = ["run", "--model", `switchyard/${model}`, "Please run: echo hi42"];
    const running = promisify(execFile)(program, asked, {
      cwd: work,
      env: {
        ...process.env,
        HOME: home,
        XDG_CONFIG_HOME: join(home, "config"),
        XDG_DATA_HOME: join(home, "data"),
        XDG_CACHE_HOME: join(home, "cache"),
        XDG_STATE_HOME: join(home, "state"),
        OPENCODE_CONFIG: file,
        OPENCODE_DISABLE_MODELS_FETCH: "1",
        OPENCODE_DISABLE_AUTOUPDATE: "1",
      },
      timeout: 120_000,
    });
    running.child.stdin.end();
    const { stdout } = await running;
    assert.match(stdout, /The tools say: [\s\S]*hi42/);
  });
}
