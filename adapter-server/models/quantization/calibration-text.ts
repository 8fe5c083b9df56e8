/** What quantized models are judged on: a little of everything that people send, written for this purpose. */
import type { TemplateMessage } from "../templates/chat-template.ts";

/** Read as it stands. */
export const passages: readonly string[] = [
  `The harbour had been quiet since the ferry stopped running in autumn, and the few boats that were left lay keel
up on the shingle. Every morning Ines walked along the breakwater to the old customs house, unlocked the side door
and wound the tide clock, although nobody had asked her to do it for eleven years. She wrote the height of the water
in a ledger, the direction of the wind, and, when there was something worth noting, the names of the ships that
passed too far out to be seen by anyone who was not looking for them.`,
  `import { readFile } from "node:fs/promises";

/** Counts how often each word occurs, the most frequent first. */
export async function countWords(path: string, limit = 10): Promise<[string, number][]> {
  const text = await readFile(path, "utf8");
  const counts = new Map<string, number>();
  for (const word of text.toLowerCase().match(/[a-z']+/g) ?? []) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1]).slice(0, limit);
}`,
  `Die Lieferung vom 14. März ist unvollständig: Es fehlen zwei der fünf Kartons. Bitte prüfen Sie den Versand und
melden Sie sich bis Freitag. Nous vous remercions de votre patience et vous confirmons que le remboursement de 37,50 €
sera effectué sous trois jours ouvrés. El pedido número 88213 llegó ayer por la tarde, pero la caja estaba abierta.
会議は来週の火曜日の午後三時に変更されました。请在周五之前回复这封邮件。`,
];

/** Rendered by the model's own template where it has one. */
export const conversations: readonly (readonly TemplateMessage[])[] = [
  [
    { role: "system", content: "Answer in one or two sentences." },
    { role: "user", content: "Why does bread go stale faster in the fridge than in a cupboard?" },
    {
      role: "assistant",
      content:
        "In the cold the starch in bread takes up its crystalline form again more quickly, which presses out water and makes the crumb firm. At room temperature that happens more slowly, and frozen it hardly happens at all.",
    },
  ],
  [
    {
      role: "system",
      content: "Extract the order as JSON with the keys item, quantity and deliver_by.",
    },
    {
      role: "user",
      content:
        "Hi, it's Tomas again. We need another 40 bags of the dark roast, the 1 kg ones, before the 3rd of June if that's at all possible. Thanks!",
    },
    {
      role: "assistant",
      content: '{"item": "dark roast, 1 kg bag", "quantity": 40, "deliver_by": "3 June"}',
    },
  ],
  [
    {
      role: "user",
      content:
        "Which department should get this? Choose billing, shipping or technical.\n\nSince the update the app closes whenever I open the camera.",
    },
    { role: "assistant", content: "technical" },
    { role: "user", content: "And this: I was charged twice for the same month, 12.99 each time." },
    { role: "assistant", content: "billing" },
  ],
  [
    {
      role: "user",
      content:
        "A train leaves at 9:40 and takes 2 hours and 35 minutes. When does it arrive? Show the steps.",
    },
    {
      role: "assistant",
      content:
        "1. 9:40 plus 2 hours is 11:40.\n2. 11:40 plus 35 minutes: 20 minutes bring it to 12:00, and 15 are left.\n3. So the train arrives at 12:15.",
    },
  ],
];
