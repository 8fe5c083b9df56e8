/** Asks an administrator's own service whether a text may pass. */
import type { Guardrail } from "../../sdk/protocol/guardrails.ts";
import { verdict } from "./judge.ts";

/** Of all texts together. More than that is objected to unseen: nobody passes a guard by saying too much for it. */
const webhookCharsMax = 1_000_000;
const answerBytesMax = 65_536;

/**
 * `POST {"project", "request_id", "texts"}`, to be answered with `{"objects": boolean}`. No redirect is followed: it
 * could lead to where the administrator did not point.
 * @throws Error where there is no verdict
 */
export async function askWebhook(
  { url }: Extract<Guardrail, { type: "webhook" }>,
  {
    texts,
    project,
    requestId,
    signal,
  }: { texts: readonly string[]; project: string; requestId: string; signal: AbortSignal },
): Promise<boolean> {
  const chars = texts.reduce((sum, text) => sum + text.length, 0);
  if (chars > webhookCharsMax) return true;
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ project, request_id: requestId, texts }),
    redirect: "error",
    signal,
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`the webhook answered ${response.status}`);
  }
  return verdict.parse(JSON.parse(await readBounded(response))).objects;
}

async function readBounded(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > answerBytesMax)
      throw new Error(`the webhook answered more than ${answerBytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
