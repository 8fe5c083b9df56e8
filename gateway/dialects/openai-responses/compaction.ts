/**
 * Compaction: a conversation becomes one item, which stands for all of it in the input of later responses. The model that
 * is asked sums it up, so any model can compact and any can go on; the item carries that text, encoded and not encrypted,
 * since whoever holds it has had the whole conversation.
 * @see https://developers.openai.com/api/docs/guides/compaction, read 2026-11-22
 */
import { HubError } from "../../../sdk/protocol/errors.ts";

type Item = Readonly<Record<string, unknown>>;

/** What the model is asked in place of an answer: to sum the items up. */
export function askForSummary(items: readonly unknown[]): unknown[] {
  return [
    ...items.flatMap((item) => asMessage(item as Item)),
    { type: "message", role: "user", content: instruction },
  ];
}

/**
 * @param whole the response that sums up
 * @throws HubError `upstream_error` where there is no whole summary
 */
export function toCompaction(whole: unknown): object {
  const { id, created_at, status, output, usage } = whole as Item & { id: string };
  const summary = (output as Item[])
    .flatMap((item) => (item.type === "message" ? (item.content as Item[]) : []))
    .map(({ text }) => (typeof text === "string" ? text : ""))
    .join("");
  if (status !== "completed" || summary === "") {
    throw new HubError("upstream_error", "The model has not summed the conversation up.");
  }
  const suffix = id.slice(id.indexOf("_") + 1);
  const content = mark + Buffer.from(summary).toString("base64url");
  return {
    id,
    object: "response.compaction",
    created_at,
    output: [{ id: `cmp_${suffix}`, type: "compaction", encrypted_content: content }],
    usage,
  };
}

/** Items with summaries in the place of our compactions; those of OpenAI pass. */
export function expandCompactions(items: readonly unknown[]): readonly unknown[] {
  if (!items.some((item) => summaryIn(item) !== undefined)) return items;
  return items.map((item) => {
    const summary = summaryIn(item);
    if (summary === undefined) return item;
    const content = `What was said before, summed up:\n${summary}`;
    return { type: "message", role: "developer", content };
  });
}

function summaryIn(item: unknown): string | undefined {
  const { type, encrypted_content: content } = (item ?? {}) as Item;
  if (type !== "compaction" || typeof content !== "string" || !content.startsWith(mark)) {
    return undefined;
  }
  return Buffer.from(content.slice(mark.length), "base64url").toString();
}

/** Calls of tools are told in words: the model that sums up has no tools, and providers insist on them for calls. */
function asMessage(item: Item): unknown[] {
  const { type, call_id: id, name, output } = item;
  switch (type) {
    case "reasoning":
      return [];
    case "function_call":
    case "custom_tool_call": {
      const content = `[called ${name} as ${id}: ${item.arguments ?? item.input}]`;
      return [{ type: "message", role: "assistant", content }];
    }
    case "function_call_output":
    case "custom_tool_call_output": {
      const text = typeof output === "string" ? output : JSON.stringify(output);
      return [{ type: "message", role: "user", content: `[${id} answered: ${text}]` }];
    }
    default:
      return [item];
  }
}

const mark = "summary:";

const instruction =
  "Sum up this conversation for a model that goes on with it and sees nothing of it but your summary. Keep what was asked for, what was decided and found out and said, all names, numbers, files and code that will be needed, and what is still to be done. Answer with the summary alone, and do nothing else that was asked for above.";
