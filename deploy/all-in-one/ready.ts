/** What a new user sees first: where it listens, the key, a first answer, and a `curl` that works as pasted. */
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { inProcessOrigin } from "../../sdk/protocol/http.ts";
import type { Serving } from "./serve.ts";

const question = "How do I reset my password?";

/** Asks the model once, as any client would; `undefined` when no model is served. @throws HubError when it fails */
export async function firstAnswer({ fetch, keys, model }: Serving): Promise<string | undefined> {
  if (model === undefined) return undefined;
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
  if (!response.ok)
    throw new HubError(
      "internal_error",
      `the first request was answered with ${response.status}: ${await response.text()}`,
    );
  return completion.parse(await response.json()).choices[0]?.message.content ?? "";
}

export type Ready = Pick<Serving, "url" | "keys" | "model"> & {
  answer: string | undefined;
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
  if (answer !== undefined) lines.push("", `  you         ${question}`, `  ${model}  ${answer}`);
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
