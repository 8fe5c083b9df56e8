/** The one logger: JSON lines without credentials, whatever is handed to it. */
import { type Logger, pino } from "pino";

/** Headers and keys never belong in a log line; should a line hold one, it is taken out. */
export function createLogger(level: string): Logger {
  return pino({
    level,
    base: null,
    redact: {
      paths: ["authorization", "apiKey", "*.authorization", "*.apiKey", "headers.authorization"],
      censor: "[redacted]",
    },
  });
}
