/** `switchyard serve`: starts a server; the servers themselves are handed in. */
import { type Command, InvalidArgumentError } from "commander";
import { UsageError } from "../failure.ts";

export type ServeOptions = {
  /** A checkpoint's folder or a GGUF file: then the adapter-server alone serves it, as vLLM would. */
  model?: string;
  host?: string;
  port?: number;
};

/** Resolves when the server has stopped. */
export type Serve = (options: ServeOptions) => Promise<void>;

export function addServe(program: Command, serve: Serve | undefined): void {
  program
    .command("serve")
    .description("start the whole Switchyard, or with --model one base model and its adapters")
    .option("--model <folder-or-gguf>", "serve this base alone, with vLLM's routes")
    .option("--host <host>", "address to listen on")
    .option("--port <port>", "port to listen on", readPort)
    .action(async (options: ServeOptions) => {
      if (!serve) throw new UsageError("The server is not installed here, only its client.");
      await serve(options);
    });
}

function readPort(text: string): number {
  const port = Number(text);
  if (/^\d+$/.test(text) && port <= 65_535) return port;
  throw new InvalidArgumentError("Write a port between 0 and 65535.");
}
