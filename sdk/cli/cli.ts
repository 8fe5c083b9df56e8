/** What every command stands on: the client, the terminal, and one way to answer in text or JSON. */
import type { Command } from "commander";
import { Switchyard } from "../client/switchyard.ts";
import { findAddress, findConnection } from "./connection.ts";
import { type ExitCode, exitCodes } from "./failure.ts";
import type { Terminal } from "./output/terminal.ts";

export type Cli = {
  terminal: Terminal;
  /** Made when a command needs it, so that `--help` works without keys. */
  client(): Switchyard;
  /** Where the server is. */
  address(): string;
  /** Whether programs read the answer. */
  json(): boolean;
  /** Writes the value as JSON, or as `render` shows it to people. */
  show<T>(value: T, render: (value: T) => string): void;
  /** For commands that answered and yet did not find what was hoped for. */
  exitCode: ExitCode;
};

export function openCli(program: Command, terminal: Terminal): Cli {
  let client: Switchyard | undefined;
  const json = () => program.opts<{ json?: boolean }>().json === true;
  const url = () => program.opts<{ url?: string }>().url;
  return {
    terminal,
    client() {
      client ??= new Switchyard(findConnection(terminal.env, url()));
      return client;
    },
    address: () => findAddress(terminal.env, url()),
    json,
    show(value, render) {
      const text = json() ? JSON.stringify(value, null, 2) : render(value);
      terminal.stdout.write(`${text}\n`);
    },
    exitCode: exitCodes.done,
  };
}
