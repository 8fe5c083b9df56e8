/** What a new user sees first: where it listens, the key, a first answer, and a `curl` that works as pasted. */
import { z } from "zod";
import { inProcessOrigin } from "../../sdk/protocol/http.ts";
import type { Serving } from "./serve.ts";

const question = "How do I reset my password?";

/** What the embedded model said, or why it said nothing. */
export type FirstAnswer = { text: string } | { problem: string };

/** Asks the embedded model once, as any client would. A provider's model is not asked: that costs money. */
export async function firstAnswer({
  fetch,
  keys,
  model,
  isEmbedded,
}: Serving): Promise<FirstAnswer | undefined> {
  if (model === undefined || !isEmbedded) return undefined;
  const response = await fetch(
    new Request(`${inProcessOrigin}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${keys.apiKey}`,
        "content-type": "application/json",
        "x-switchyard-tags": "start=check",
      },
      body: JSON.stringify({
        model,
        messages: [{ role: "user", content: question }],
        max_tokens: 64,
      }),
    }),
  );
  const text = await response.text();
  if (!response.ok) return { problem: `${response.status}: ${text.trim()}` };
  return { text: completion.parse(JSON.parse(text)).choices[0]?.message.content ?? "" };
}

export type Ready = Pick<Serving, "url" | "keys" | "model"> & {
  answer: FirstAnswer | undefined;
  startMs: number;
};

export function readyMessage({ url, keys, model, answer, startMs }: Ready): string {
  const seconds = (startMs / 1000).toFixed(1);
  // A key is shown once, when it is new; afterwards the shell reads it from where it is kept.
  const key = keys.isNew ? keys.apiKey : `$(node -p 'require("${keys.path}").apiKey')`;
  const body = JSON.stringify({ model, messages: [{ role: "user", content: question }] });
  const lines = [
    `Switchyard is ready at ${url} (${seconds} s)`,
    "",
    `  key        ${keys.isNew ? keys.apiKey : `in ${keys.path}`}`,
    `  admin key  in ${keys.path}`,
    `  dashboard  ${url}/`,
  ];
  if (answer && "text" in answer) {
    lines.push("", `  you         ${question}`, `  ${model}  ${answer.text}`);
  }
  if (answer && "problem" in answer) {
    lines.push("", `${model} did not answer a first question: ${answer.problem}`);
  }
  if (model !== undefined) {
    lines.push("", "Try it:", "", `  curl ${url}/v1/chat/completions \\`);
    lines.push(`    -H "authorization: Bearer ${key}" -H "content-type: application/json" \\`);
    lines.push(`    -d '${body}'`);
  }
  return `${lines.join("\n")}\n`;
}

const completion = z.object({
  choices: z.array(z.object({ message: z.object({ content: z.string().nullable() }) })),
});
