/** The one logger: JSON lines without credentials, whatever is handed to it. */
import { type DestinationStream, type Logger, pino } from "pino";

/**
 * Headers and keys never belong in a log line; should a line hold one, it is taken out. That is looked for in the line that is
 * written, because pino's own `redact` copies everything that it is given, which took longer than writing it.
 * @param bytesMax lines that wait to be written; further ones are dropped
 * @param to       standard output unless a test says otherwise
 */
export function createLogger(
  level: string,
  bytesMax: number,
  to: DestinationStream = standardOutput(bytesMax),
): Logger {
  return pino({ level, base: null }, { write: (line) => to.write(withoutCredentials(line)) });
}

/** Several lines go out in one write, soon, and what is left when the process ends, or is made to, then. */
function standardOutput(bytesMax: number): DestinationStream {
  return pino.destination({
    dest: 1,
    sync: false,
    minLength: togetherBytes,
    periodicFlush: flushMs,
    maxLength: bytesMax,
  });
}

function withoutCredentials(line: string): string {
  if (!credentials.some((name) => line.includes(`"${name}"`))) return line;
  const redacted = JSON.stringify(JSON.parse(line), (name, value) =>
    credentials.includes(name) ? "[redacted]" : value,
  );
  return `${redacted}\n`;
}

const credentials = ["authorization", "apiKey"];
const togetherBytes = 4096;
const flushMs = 50;
