/** The dear model of the demo: test/emulators' OpenAI, answering from the dataset's references as a good model would. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { type OpenAiEmulator, startOpenAiEmulator } from "../../test/emulators/openai.ts";

export type DemoRow = { question: string; reference: string };

/** @param path JSON lines of `{"messages": [question, reference]}` */
export function readRows(path: string): DemoRow[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => row.parse(JSON.parse(line)).messages)
    .map(([question, reference]) => ({ question: question.content, reference: reference.content }));
}

/**
 * Knows most answers: one row in sixteen, always the same ones, is answered wrongly, so that it is measured
 * as any model is. Tokens are counted as a quarter of the characters, near what providers count for English.
 */
export function startEmulatedProvider(
  rows: readonly DemoRow[],
  apiKey: string,
): Promise<OpenAiEmulator> {
  const references = new Map(rows.map(({ question, reference }) => [question, reference]));
  return startOpenAiEmulator({
    apiKey,
    deltaDelayMs: 15,
    answer({ messages }) {
      const question = String(messages.at(-1)?.content ?? "");
      const reference = references.get(question);
      const content =
        reference === undefined
          ? "I am an emulator and know only the demo's questions."
          : question.length % 16 === 7
            ? "I am not sure."
            : reference;
      const prompt_tokens = Math.ceil(question.length / 4) + 7;
      const completion_tokens = Math.ceil(content.length / 4);
      return {
        content,
        usage: {
          prompt_tokens,
          completion_tokens,
          total_tokens: prompt_tokens + completion_tokens,
        },
      };
    },
  });
}

const message = z.object({ content: z.string() });
const row = z.object({ messages: z.tuple([message, message]) });
