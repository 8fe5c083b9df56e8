/** `switchyard chat`: talk to any model in the terminal, or pipe lines through it. */
import { createInterface } from "node:readline/promises";
import { type Command, InvalidArgumentError } from "commander";
import type OpenAI from "openai";
import { servedModelHeader } from "../../protocol/http.ts";
import type { Cli } from "../cli.ts";
import { wholeNumber } from "../options.ts";
import { integer, milliseconds } from "../output/format.ts";

type ChatOptions = { system?: string; maxTokens?: number; temperature?: number };
type Message = OpenAI.Chat.Completions.ChatCompletionMessageParam;
type Answer = {
  model: string;
  content: string;
  promptTokens?: number;
  completionTokens?: number;
  ttftMs?: number;
  durationMs: number;
};

export function addChat(program: Command, cli: Cli): void {
  program
    .command("chat")
    .description("talk to a model; piped lines are asked one after another")
    .argument("<model>", "base, base:adapter, a route or auto")
    .option("--system <text>", "a system message before the conversation")
    .option("--max-tokens <n>", "longest answer", wholeNumber)
    .option("--temperature <t>", "0 for the likeliest words", readTemperature)
    .action((model: string, options: ChatOptions) => chat(model, options, cli));
}

async function chat(model: string, options: ChatOptions, cli: Cli): Promise<void> {
  const { stdin, stdout, stderr, errorColours } = cli.terminal;
  const interactive = stdin.isTTY === true && !cli.json();
  const beginning: Message[] =
    options.system === undefined ? [] : [{ role: "system", content: options.system }];
  let messages = [...beginning];

  const lines = createInterface({
    input: stdin,
    output: interactive ? stderr : undefined,
    prompt: errorColours.cyan("> "),
  });
  let current: AbortController | undefined;
  // The first Ctrl-C ends an answer that is being written, one between answers ends the chat.
  lines.on("SIGINT", () => (current ? current.abort() : lines.close()));
  if (interactive) {
    stderr.write(errorColours.dim(`${model}: /reset forgets, /exit or Ctrl-D leaves\n`));
    lines.prompt();
  }
  for await (const line of lines) {
    const text = line.trim();
    if (text === "/exit") break;
    if (text === "/reset") messages = [...beginning];
    else if (text !== "") {
      current = new AbortController();
      const asked: Message[] = [...messages, { role: "user", content: text }];
      const write = (piece: string) => {
        if (!cli.json()) stdout.write(piece);
      };
      const answer = await ask({ model, messages: asked, options, write }, cli, current.signal);
      current = undefined;
      messages = [...asked, { role: "assistant", content: answer.content }];
      if (cli.json()) stdout.write(`${JSON.stringify(answer)}\n`);
      else stdout.write("\n");
      if (interactive) stderr.write(errorColours.dim(`${factsText(answer)}\n`));
    }
    if (interactive) lines.prompt();
  }
  lines.close();
}

type Asked = {
  model: string;
  messages: Message[];
  options: ChatOptions;
  write: (piece: string) => void;
};

/** Streams one answer; what came before an interruption is the answer. */
async function ask(asked: Asked, cli: Cli, signal: AbortSignal): Promise<Answer> {
  const { model, messages, options, write } = asked;
  const startedAt = performance.now();
  const answer: Answer = { model, content: "", durationMs: 0 };
  try {
    const { data: stream, response } = await cli
      .client()
      .openai.chat.completions.create(
        {
          model,
          messages,
          stream: true,
          stream_options: { include_usage: true },
          ...(options.maxTokens === undefined ? {} : { max_tokens: options.maxTokens }),
          ...(options.temperature === undefined ? {} : { temperature: options.temperature }),
        },
        { signal },
      )
      .withResponse();
    answer.model = response.headers.get(servedModelHeader) ?? model;
    for await (const { choices, usage } of stream) {
      const piece = choices[0]?.delta.content ?? "";
      if (piece !== "") answer.ttftMs ??= Math.round(performance.now() - startedAt);
      answer.content += piece;
      write(piece);
      if (usage) {
        answer.promptTokens = usage.prompt_tokens;
        answer.completionTokens = usage.completion_tokens;
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  answer.durationMs = Math.round(performance.now() - startedAt);
  return answer;
}

function factsText({ model, completionTokens, ttftMs, durationMs }: Answer): string {
  return `${model} · ${integer(completionTokens)} tokens · first after ${milliseconds(ttftMs)}, all in ${milliseconds(durationMs)}`;
}

function readTemperature(text: string): number {
  const temperature = Number(text);
  if (text.trim() !== "" && temperature >= 0 && temperature <= 2) return temperature;
  throw new InvalidArgumentError("Write a number between 0 and 2.");
}
