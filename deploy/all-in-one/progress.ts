/** Tells a person who waits what is being done. */

/** One line that rewrites itself on a terminal; elsewhere a line for each thing, without its percentages. */
export function showProgress(): { show(what: string): void; end(): void } {
  const { stderr } = process;
  let shown = "";
  return {
    show(what) {
      const line = stderr.isTTY ? what : what.replace(/: \d+ %$/, "");
      if (line === shown) return;
      shown = line;
      stderr.write(stderr.isTTY ? `\r\x1b[K${line} …` : `${line}\n`);
    },
    end() {
      if (stderr.isTTY && shown !== "") stderr.write("\r\x1b[K");
      shown = "";
    },
  };
}
