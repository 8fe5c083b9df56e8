/** What a model says, as the items of a response. */
import type { ContentLogprob } from "../../../sdk/protocol/chat.ts";
import type { Citation } from "../../canonical/request.ts";

export type OutputText = {
  type: "output_text";
  text: string;
  annotations: unknown[];
  logprobs: ContentLogprob[];
};
export type RefusalContent = { type: "refusal"; refusal: string };
export type MessageItem = {
  id: string;
  type: "message";
  role: "assistant";
  status: ItemStatus;
  content: (OutputText | RefusalContent)[];
};
export type FunctionCallItem = {
  id: string;
  type: "function_call";
  call_id: string;
  name: string;
  arguments: string;
  status: ItemStatus;
};
export type CustomCallItem = {
  id: string;
  type: "custom_tool_call";
  call_id: string;
  name: string;
  input: string;
  status: ItemStatus;
};
export type ReasoningItem = {
  id: string;
  type: "reasoning";
  summary: { type: "summary_text"; text: string }[];
  encrypted_content?: string;
};
export type OutputItem = MessageItem | FunctionCallItem | CustomCallItem | ReasoningItem;
type ItemStatus = "in_progress" | "completed" | "incomplete";

/** A citation as OpenAI annotates; what it does not know the place of covers the text so far. */
export function toAnnotation({ url, title, start, end }: Citation, textLength: number): unknown {
  return {
    type: "url_citation",
    url: url ?? "",
    title: title ?? "",
    start_index: start ?? 0,
    end_index: end ?? textLength,
  };
}
