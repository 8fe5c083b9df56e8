/** `switchyard login`, `logout` and `whoami`: people work in the terminal with the role that they have. */
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline/promises";
import type { Command } from "commander";
import { SwitchyardError } from "../../client/error.ts";
import { Transport } from "../../client/transport.ts";
import type { Whoami } from "../../protocol/admin.ts";
import { confirmationOf, type ProgramSession } from "../../protocol/sign-in.ts";
import type { Cli } from "../cli.ts";
import { CommandError } from "../failure.ts";
import { moment } from "../output/format.ts";
import { readSession, writeSession } from "../session-file.ts";

type LoginOptions = { browser: boolean; paste?: boolean };

export function addLogin(program: Command, cli: Cli): void {
  program
    .command("login")
    .description("log in with your browser, at the provider that the server knows")
    .option("--no-browser", "only tell the address to open")
    .option("--paste", "on a machine without a browser: paste the code that the page shows")
    .action(async (options: LoginOptions) => {
      const address = cli.address();
      await refuseWithoutSignIn(address);
      const verifier = randomBytes(32).toString("base64url");
      const challenge = createHash("sha256").update(verifier).digest("base64url");
      const state = randomBytes(16).toString("base64url");
      const asked = { cli, address, challenge, state };
      const code = options.paste
        ? await codeFromTerminal(asked)
        : await codeFromBrowser(asked, options.browser);
      const session = await redeem(address, { code, verifier });
      const { token, expiresAt } = session;
      writeSession(cli.terminal.env, address, { token, expiresAt });
      cli.show({ user: session.user, expiresAt }, () => personText(session.user, expiresAt));
    });

  program
    .command("logout")
    .description("end your session at the server, and forget it here")
    .action(async () => {
      const address = cli.address();
      const session = readSession(cli.terminal.env, address);
      writeSession(cli.terminal.env, address, undefined);
      if (session) await endSession(address, session.token);
      cli.show({ loggedOut: session !== undefined }, ({ loggedOut }) =>
        loggedOut ? "You are logged out." : "Nobody was logged in.",
      );
    });

  program
    .command("whoami")
    .description("who you are for the server, and what you may do")
    .action(async () => {
      const session = readSession(cli.terminal.env, cli.address());
      const who = await cli.client().whoami(session ? "admin" : "project");
      cli.show(who, () => whoText(who, session?.expiresAt));
    });
}

type Asked = { cli: Cli; address: string; challenge: string; state: string };

/** Waits on a loopback port for the browser to come back with the code. */
async function codeFromBrowser({ cli, ...asked }: Asked, mayOpen: boolean): Promise<string> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    const back = new Promise<string>((resolve) => {
      server.on("request", (request, response) => {
        const { searchParams } = new URL(request.url ?? "/", "http://127.0.0.1");
        const code = searchParams.get("code");
        const isOurs = searchParams.get("state") === asked.state && code !== null;
        response.writeHead(isOurs ? 200 : 404, {
          "content-type": "text/plain; charset=utf-8",
          connection: "close",
        });
        response.end(isOurs ? "You are logged in. You can close this page.\n" : "Not found.\n");
        if (isOurs) resolve(code);
      });
    });
    const url = loginUrl(asked, port);
    tell(cli, url, asked.challenge);
    if (mayOpen) openBrowser(url);
    return await inTime(back);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

async function codeFromTerminal({ cli, ...asked }: Asked): Promise<string> {
  const { stdin, stderr } = cli.terminal;
  tell(cli, loginUrl(asked, undefined), asked.challenge);
  const lines = createInterface({ input: stdin, output: stderr });
  try {
    return (await lines.question("Code: ")).trim();
  } finally {
    lines.close();
  }
}

function loginUrl(
  { address, challenge, state }: Omit<Asked, "cli">,
  port: number | undefined,
): string {
  const url = new URL("/auth/login", address);
  url.searchParams.set("challenge", challenge);
  url.searchParams.set("state", state);
  if (port !== undefined) url.searchParams.set("port", String(port));
  return url.href;
}

/** To stderr, so that stdout holds the answer alone. */
function tell({ terminal }: Cli, url: string, challenge: string): void {
  const { bold } = terminal.errorColours;
  terminal.stderr.write(
    `Open this page and log in:\n\n  ${url}\n\nIt asks whether it was you, and shows ${bold(confirmationOf(challenge))}.\n`,
  );
}

/** A machine without one has the address to open elsewhere. */
function openBrowser(url: string): void {
  const [command, ...args] = { darwin: ["open"], win32: ["cmd", "/c", "start", ""] }[
    process.platform as string
  ] ?? ["xdg-open"];
  if (command === undefined) return;
  const quoted = process.platform === "win32" ? url.replaceAll("&", "^&") : url;
  const child = spawn(command, [...args, quoted], { stdio: "ignore", detached: true });
  child.on("error", () => {});
  child.unref();
}

async function inTime(code: Promise<string>): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const hint =
        "Run 'switchyard login' again, with --paste where no browser can come back here.";
      reject(new CommandError("Nobody logged in within ten minutes.", { code: "timed_out", hint }));
    }, waitMs);
  });
  try {
    return await Promise.race([code, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** @throws CommandError where only keys are known */
async function refuseWithoutSignIn(address: string): Promise<void> {
  const { enabled } = await transportTo(address).call<{ enabled: boolean }>("/auth/session", {
    key: "admin",
  });
  if (enabled) return;
  throw new CommandError(`People do not log in at ${address}.`, {
    code: "no_sign_in",
    hint: "An administrator sets 'signIn' in switchyard.yaml; without it everything is done with keys.",
  });
}

function redeem(
  address: string,
  body: { code: string; verifier: string },
): Promise<ProgramSession> {
  return transportTo(address).call("/auth/token", { method: "POST", key: "admin", json: body });
}

async function endSession(address: string, token: string): Promise<void> {
  const transport = new Transport({ baseURL: address, adminKey: token });
  await transport.send("/auth/logout", { method: "POST", key: "admin" }).catch((error: unknown) => {
    // It had ended, which is what was wanted.
    if (!(error instanceof SwitchyardError && error.status === 401)) throw error;
  });
}

/** What is asked before anybody is known takes no key. */
const transportTo = (address: string) => new Transport({ baseURL: address, adminKey: "none" });

function whoText(who: Whoami, expiresAt: string | undefined): string {
  if (who.user) return personText(who.user, expiresAt);
  const project = who.projectId === undefined ? "" : ` of the project ${who.projectId}`;
  return `${who.keyId}, a key with the role ${who.role}${project}`;
}

function personText(user: NonNullable<Whoami["user"]>, expiresAt: string | undefined): string {
  const projects = user.projects.map(({ name, role }) =>
    role === "owner" ? `${name} (owner)` : name,
  );
  return [
    `You are ${user.email ?? user.name ?? "logged in"}, ${user.role}.`,
    projects.length === 0
      ? "You are a member of no project."
      : `You are a member of ${projects.join(", ")}.`,
    ...(expiresAt === undefined ? [] : [`The session ends at ${moment(expiresAt)} UTC.`]),
  ].join("\n");
}

const waitMs = 10 * 60_000;
