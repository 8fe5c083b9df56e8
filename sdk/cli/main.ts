/** Runs one command and says how it ended, as an exit code. */
import { type Command, CommanderError } from "commander";
import { type ExitCode, exitCodes, type Failure, toFailure } from "./failure.ts";
import { openTerminal, type Terminal } from "./output/terminal.ts";
import { createProgram, type Hooks } from "./program.ts";

/**
 * @param argv   what follows the command's own name
 * @param hooks  what only an installation with the servers can do
 */
export async function main(
  argv: readonly string[],
  hooks: Hooks = {},
  terminal: Terminal = openTerminal(),
): Promise<ExitCode> {
  const { program, cli } = createProgram(hooks, terminal);
  prepare(program, terminal);
  try {
    await program.parseAsync([...argv], { from: "user" });
    return cli.exitCode;
  } catch (error) {
    // Commander has told what was wrong, or shown the help that was asked for.
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? exitCodes.done : exitCodes.wrongUse;
    }
    const failure = toFailure(error);
    terminal.stderr.write(cli.json() ? toJson(failure) : toText(failure, terminal));
    return failure.exitCode;
  }
}

/** Commander throws where it would end the process, and writes where we do. */
function prepare(command: Command, terminal: Terminal): void {
  command.exitOverride();
  command.configureOutput({
    writeOut: (text) => terminal.stdout.write(text),
    writeErr: (text) => terminal.stderr.write(text),
  });
  for (const child of command.commands) prepare(child, terminal);
}

function toJson({ exitCode: _, ...error }: Failure): string {
  return `${JSON.stringify({ error })}\n`;
}

function toText(failure: Failure, { errorColours }: Terminal): string {
  const facts = [
    failure.code,
    failure.param && `field ${failure.param}`,
    failure.requestId && `request ${failure.requestId}`,
  ].filter((fact) => fact !== undefined && fact !== "");
  return [
    `${errorColours.red("error:")} ${failure.message}`,
    ...(facts.length === 0 ? [] : [errorColours.dim(`       ${facts.join(" · ")}`)]),
    ...(failure.hint === undefined ? [] : [`${errorColours.cyan("hint:")}  ${failure.hint}`]),
    "",
  ].join("\n");
}
