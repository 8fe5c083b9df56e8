/** A bar on stderr for what takes longer than two seconds, and only where somebody is looking. */
import { SingleBar } from "cli-progress";
import type { Terminal } from "./terminal.ts";

export type Progress = { update(done: number, total: number): void; stop(): void };

/**
 * @param label  stands before the bar, such as "uploading"
 * @param show   how a count is written, where it is no plain number
 */
export function openProgress(
  label: string,
  terminal: Terminal,
  { show = String, now = Date.now }: { show?: (count: number) => string; now?: () => number } = {},
): Progress {
  if (terminal.stderr.isTTY !== true) return { update: () => {}, stop: () => {} };
  const startedAt = now();
  let bar: SingleBar | undefined;
  return {
    update(done, total) {
      if (bar === undefined && now() - startedAt < quietMs) return;
      if (bar === undefined) {
        bar = new SingleBar({
          format: `${label} {bar} {percentage} % · {value}/{total} · {duration_formatted}`,
          barCompleteChar: "█",
          barIncompleteChar: "░",
          hideCursor: true,
          clearOnComplete: true,
          formatValue: (value, _options, type) =>
            type === "value" || type === "total" ? show(value) : String(value),
          stream: terminal.stderr,
        });
        bar.start(total, done);
      }
      bar.setTotal(total);
      bar.update(done);
    },
    stop: () => bar?.stop(),
  };
}

const quietMs = 2000;
