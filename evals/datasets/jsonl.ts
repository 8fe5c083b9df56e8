/** Reads a dataset: one JSON object a line, each a conversation and the answer that is right. */
import { z } from "zod";
import { type ChatMessage, chatMessage, messageText } from "../../sdk/protocol/chat.ts";
import { fromZodError, HubError } from "../../sdk/protocol/errors.ts";
import type { Limits } from "../config.ts";

/** What is asked, and the reference that answers are judged against. */
export type DatasetRow = { messages: ChatMessage[]; reference: string };

/**
 * Rows are `{"messages": […, {"role": "assistant", …}]}`, as for fine-tuning, the last message being the
 * reference, or `{"input": text or messages, "ideal": text}`. Empty lines are passed over.
 * @throws HubError `invalid_dataset`, which names the line, counted from 1
 */
export function parseDataset(
  bytes: Uint8Array,
  limits: Pick<Limits, "datasetRowsMax" | "datasetLineBytesMax">,
): DatasetRow[] {
  const rows: DatasetRow[] = [];
  for (const { number, line } of lines(bytes)) {
    if (line.length > limits.datasetLineBytesMax) {
      throw refuse(number, `it is longer than ${limits.datasetLineBytesMax} bytes`);
    }
    const text = decode(line, number);
    if (text.trim() === "") continue;
    if (rows.length === limits.datasetRowsMax) {
      throw refuse(
        number,
        `a dataset has at most ${limits.datasetRowsMax} rows. Push a sample of it`,
      );
    }
    rows.push(parseRow(text, number));
  }
  if (rows.length === 0) {
    throw new HubError(
      "invalid_dataset",
      'The dataset has no rows. Send one JSON object a line, such as {"input": "2 + 2 =", "ideal": "4"}.',
    );
  }
  return rows;
}

function parseRow(text: string, number: number): DatasetRow {
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (cause) {
    throw refuse(number, `it is not JSON (${cause instanceof Error ? cause.message : cause})`);
  }
  if (typeof data !== "object" || data === null || Array.isArray(data)) {
    throw refuse(number, `it is not a JSON object. ${expected}`);
  }
  if (!("messages" in data) && !("input" in data)) {
    throw refuse(number, `it has neither 'messages' nor 'input'. ${expected}`);
  }
  return "messages" in data
    ? fromConversation(parse(conversationRow, data, number), number)
    : fromInput(parse(inputRow, data, number));
}

function fromConversation(
  { messages }: z.infer<typeof conversationRow>,
  number: number,
): DatasetRow {
  const last = messages.at(-1);
  if (last?.role !== "assistant") {
    throw refuse(number, "the last of 'messages' must be the assistant's, which is the reference");
  }
  const reference = messageText(last);
  if (reference === undefined) {
    throw refuse(number, "the assistant's last message has no text to compare answers with");
  }
  return { messages: messages.slice(0, -1), reference };
}

function fromInput({ input, ideal }: z.infer<typeof inputRow>): DatasetRow {
  return {
    messages: typeof input === "string" ? [{ role: "user", content: input }] : input,
    reference: ideal,
  };
}

function parse<S extends z.ZodType>(schema: S, data: unknown, number: number): z.infer<S> {
  const parsed = schema.safeParse(data);
  if (parsed.success) return parsed.data;
  const { message } = fromZodError(parsed.error);
  throw refuse(number, message.charAt(0).toLowerCase() + message.slice(1).replace(/\.$/, ""));
}

function decode(line: Uint8Array, number: number): string {
  try {
    return utf8.decode(line);
  } catch {
    throw refuse(number, "it is not UTF-8 text");
  }
}

function* lines(bytes: Uint8Array): Generator<{ number: number; line: Uint8Array }> {
  const hasMark = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf;
  let start = hasMark ? 3 : 0;
  for (let number = 1; start < bytes.length; number++) {
    const newline = bytes.indexOf(10, start);
    const end = newline === -1 ? bytes.length : newline;
    yield { number, line: bytes.subarray(start, end) };
    start = end + 1;
  }
}

function refuse(line: number, why: string): HubError {
  return new HubError("invalid_dataset", `Line ${line} of the dataset is refused: ${why}.`, {
    details: { line },
  });
}

const utf8 = new TextDecoder("utf-8", { fatal: true });

const expected =
  'A row is {"messages": [..., {"role": "assistant", "content": "..."}]} or {"input": "...", "ideal": "..."}';

// Keys that would change the question and that a run does not send, such as `tools`, are refused by name.
const notes = { id: z.unknown().optional(), metadata: z.unknown().optional() };
const conversationRow = z.strictObject({
  messages: z.array(chatMessage).min(2).max(1000),
  ...notes,
});
const inputRow = z.strictObject({
  input: z.union([z.string().min(1), z.array(chatMessage).min(1).max(1000)]),
  ideal: z.string(),
  ...notes,
});
