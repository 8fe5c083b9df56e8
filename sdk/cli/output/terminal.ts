/** What a command may write to and read from; colours and bars only where somebody is looking. */
import pc from "picocolors";

export type Colours = ReturnType<typeof pc.createColors>;

export type Terminal = {
  env: NodeJS.ProcessEnv;
  stdin: NodeJS.ReadableStream & { isTTY?: boolean };
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  stderr: NodeJS.WritableStream & { isTTY?: boolean };
  /** For what goes to stdout. */
  colours: Colours;
  /** For what goes to stderr. */
  errorColours: Colours;
};

export function openTerminal(): Terminal {
  const { env, stdin, stdout, stderr } = process;
  const coloursFor = (stream: NodeJS.WriteStream) =>
    pc.createColors(stream.isTTY === true && pc.isColorSupported && !env.NO_COLOR);
  return {
    env,
    stdin,
    stdout,
    stderr,
    colours: coloursFor(stdout),
    errorColours: coloursFor(stderr),
  };
}
