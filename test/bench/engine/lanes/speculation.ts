/**
 * Prompt lookup on a task that copies from its prompt: several tokens verified in a step, against one token a
 * step. The engine has no such option yet, so the plain figure stands on both sides and the target is missed.
 */
import type { AdapterServer } from "../../../../adapter-server/server.ts";
import { median } from "../../report.ts";
import { type Result, resultOf } from "../result.ts";
import type { Lane } from "./table.ts";

const target = 1.5;
const newTokens = 96;

export const speculation: Lane = async function* (setting) {
  const [model] = setting.models.filter(({ size }) => size === "135M");
  if (!model) return;
  const ours = await setting.openOurs(model);
  try {
    setting.tell(`${model.name}, an extraction`);
    await extract(ours.server);
    const plain: number[] = [];
    let copied = 0;
    for (let round = 0; round < setting.rounds(model); round++) {
      const { rate, text } = await extract(ours.server);
      plain.push(rate);
      copied = shareCopied(text);
    }
    yield {
      ...resultOf({
        name: `${model.name}: prompt lookup on an extraction, one sequence`,
        unit: "tokens/s",
        ours: plain,
        peer: plain,
        target,
        notes: [
          `not built: the plain figure, ${median(plain).toFixed(0)} tokens/s, stands on both sides`,
          `${Math.round(100 * copied)} % of the answer's triples of words stand in the prompt${model.isTrained ? "" : " (random weights: it says nothing)"}`,
        ],
      }),
    } satisfies Result;
  } finally {
    await ours.close();
  }
};

async function extract(server: AdapterServer): Promise<{ rate: number; text: string }> {
  const body = {
    model: "bench",
    temperature: 0,
    max_tokens: newTokens,
    messages: [{ role: "user", content: `${task}\n\n${list}` }],
  };
  const startedAt = performance.now();
  const response = await server.app.fetch(
    new Request("http://localhost/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
  );
  const answer = (await response.json()) as {
    choices?: { message: { content: string } }[];
    usage?: { completion_tokens: number };
  };
  const seconds = (performance.now() - startedAt) / 1000;
  const text = answer.choices?.[0]?.message.content;
  if (text === undefined || !answer.usage)
    throw new Error(`no answer to the extraction: ${JSON.stringify(answer)}`);
  return { rate: answer.usage.completion_tokens / seconds, text };
}

/** Triples of neighbouring words that the list has too. */
function shareCopied(text: string): number {
  const words = text.split(/\s+/);
  const triples = words.slice(2).map((_, at) => words.slice(at, at + 3).join(" "));
  const whole = list.split(/\s+/).join(" ");
  return triples.filter((triple) => whole.includes(triple)).length / Math.max(1, triples.length);
}

const task = "Repeat the following text exactly.";
const list = `- order 48213, two grey office chairs, sent on 3 March to 14 Harbour Street, Bristol
- order 48377, one standing desk with oak top, sent on 9 March to 22 Mill Lane, Leeds
- order 48502, six brass desk lamps, sent on 11 March to 14 Harbour Street, Bristol
- order 48519, one filing cabinet with lock, sent on 12 March to 7 Castle Road, York`;
