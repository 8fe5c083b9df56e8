/** Canonical events as the events of a response, each with its number, in the order that SDKs insist on. */
import type { ContentLogprob } from "../../../sdk/protocol/chat.ts";
import type { HubError } from "../../../sdk/protocol/errors.ts";
import { formatSse } from "../../../sdk/protocol/sse.ts";
import type { UsageVector } from "../../../sdk/protocol/usage.ts";
import type { AnswerEvent, FinishReason } from "../../canonical/answer.ts";
import type { AnswerHead, EventWriter } from "../dialect.ts";
import { type ResponseState, toErrorFields, toResponse, toResponseId } from "./answer.ts";
import { toCallId } from "./call-id.ts";
import {
  type CustomCallItem,
  type FunctionCallItem,
  type MessageItem,
  type OutputItem,
  type OutputText,
  type ReasoningItem,
  type RefusalContent,
  toAnnotation,
} from "./items.ts";
import { toCallSeal, toEncryptedContent } from "./seal.ts";

type CallItem = FunctionCallItem | CustomCallItem;

export class ResponsesWriter implements EventWriter {
  readonly #head: AnswerHead;
  readonly #output: OutputItem[] = [];
  readonly #places = new Map<OutputItem, number>();
  #model: string;
  #frames: string[] = [];
  #sequence = 0;
  #begun = false;
  /** What is being said: texts and thoughts end when something else begins. */
  #open: MessageItem | ReasoningItem | undefined;
  /** Calls end together, because pieces of several may come in turns. */
  readonly #openCalls = new Map<number, CallItem>();
  #finish: FinishReason | undefined;
  #usage: UsageVector | undefined;
  #error: HubError | undefined;

  constructor(head: AnswerHead) {
    this.#head = head;
    this.#model = head.model;
  }

  write(event: AnswerEvent): Uint8Array | undefined {
    if (event.type !== "start") this.#begin();
    this.#take(event);
    return this.#flush();
  }

  end(error: HubError | undefined): Uint8Array | undefined {
    this.#error = error;
    this.#begin();
    this.#closeAll();
    if (error) this.#send("error", toErrorFields(error));
    const { status } = this.#state();
    this.#send(`response.${status}`, { response: this.whole() });
    return this.#flush();
  }

  whole(): object {
    this.#closeAll();
    return toResponse(this.#head, this.#model, this.#state());
  }

  #state(): ResponseState {
    const about = { output: this.#output, usage: this.#usage, finish: this.#finish };
    if (this.#error) return { ...about, status: "failed", error: this.#error };
    return {
      ...about,
      status: this.#isCut() ? "incomplete" : "completed",
      completedAtMs: this.#head.nowMs(),
    };
  }

  /** Who declines without a word has cut the answer off as a filter does. */
  #isCut(): boolean {
    if (this.#finish === "refusal") {
      const said = this.#output.flatMap((item) => (item.type === "message" ? item.content : []));
      return !said.some(({ type }) => type === "refusal");
    }
    return this.#finish === "length" || this.#finish === "content_filter";
  }

  #take(event: AnswerEvent): void {
    if (event.type === "start") {
      if (event.model !== undefined) this.#model = event.model;
      return;
    }
    // The Responses API has one choice.
    if ("choice" in event && event.choice > 0) return;
    switch (event.type) {
      case "text":
        this.#text(event.text, event.logprobs);
        break;
      case "refusal":
        this.#refuse(event.text);
        break;
      case "reasoning":
        this.#think(event.text, event.id);
        break;
      case "reasoning_seal":
        this.#seal(event);
        break;
      case "tool_call":
        this.#call(event);
        break;
      case "tool_arguments":
        this.#argue(event.call, event.text);
        break;
      case "citation":
        this.#cite(event.citation);
        break;
      case "finish":
        this.#finish = event.reason;
        break;
      case "usage":
        this.#usage = event.usage.usage;
        break;
      case "error":
      case "end":
        break;
      default:
        event satisfies never;
    }
  }

  #begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    const response = toResponse(this.#head, this.#model, { status: "in_progress", output: [] });
    this.#send("response.created", { response });
    this.#send("response.in_progress", { response });
  }

  #text(text: string, logprobs: ContentLogprob[] = []): void {
    const { item, part, at } = this.#content("output_text");
    if (part.type !== "output_text") return;
    part.text += text;
    for (const one of logprobs) part.logprobs.push(one);
    const told = logprobs.map(({ token, logprob, top_logprobs }) => ({
      token,
      logprob,
      top_logprobs: top_logprobs.map((top) => ({ token: top.token, logprob: top.logprob })),
    }));
    this.#send("response.output_text.delta", {
      item_id: item.id,
      ...at,
      delta: text,
      logprobs: told,
    });
  }

  #refuse(text: string): void {
    const { item, part, at } = this.#content("refusal");
    if (part.type !== "refusal") return;
    part.refusal += text;
    this.#send("response.refusal.delta", { item_id: item.id, ...at, delta: text });
  }

  #cite(citation: Parameters<typeof toAnnotation>[0]): void {
    const { item, part, at } = this.#content("output_text");
    if (part.type !== "output_text") return;
    const annotation = toAnnotation(citation, part.text.length);
    const annotation_index = part.annotations.push(annotation) - 1;
    const where = { item_id: item.id, ...at, annotation_index };
    this.#send("response.output_text.annotation.added", { ...where, annotation });
  }

  #think(text: string, id: string | undefined): void {
    let item = this.#open;
    if (item?.type !== "reasoning") {
      this.#closeAll();
      item = { id: id ?? this.#newId("rs"), type: "reasoning", summary: [] };
      this.#add(item);
      this.#open = item;
    }
    const [summary] = item.summary;
    const at = { item_id: item.id, output_index: this.#places.get(item), summary_index: 0 };
    if (!summary) {
      this.#send("response.reasoning_summary_part.added", {
        ...at,
        part: { type: "summary_text", text: "" },
      });
    }
    const part = summary ?? { type: "summary_text" as const, text: "" };
    if (!summary) item.summary.push(part);
    part.text += text;
    this.#send("response.reasoning_summary_text.delta", { ...at, delta: text });
  }

  /** Thoughts that nobody may read are an item all the same, to be sent back with a tool's output. */
  #seal(seal: Extract<AnswerEvent, { type: "reasoning_seal" }>): void {
    const content = toEncryptedContent(seal);
    if (content === undefined) return;
    // A signature on what was said is nothing to show.
    if (this.#open?.type !== "reasoning" && seal.encrypted === undefined) return;
    if (this.#open?.type !== "reasoning") this.#closeAll();
    this.#sealWith(content);
  }

  /** Into the thoughts that are open, or into an item of its own. */
  #sealWith(content: string): void {
    let item = this.#open;
    if (item?.type !== "reasoning") {
      this.#closeOpen();
      item = { id: this.#newId("rs"), type: "reasoning", summary: [] };
      this.#add(item);
      this.#open = item;
    }
    item.encrypted_content = content;
    this.#closeOpen();
  }

  #call({ call, name, custom, ...event }: Extract<AnswerEvent, { type: "tool_call" }>): void {
    if (event.signature !== undefined) this.#sealWith(toCallSeal(event.signature));
    this.#closeOpen();
    const status = "in_progress";
    const id = toCallId(event.id);
    const item: CallItem = custom
      ? { id: this.#newId("ctc"), type: "custom_tool_call", call_id: id, name, input: "", status }
      : { id: this.#newId("fc"), type: "function_call", call_id: id, name, arguments: "", status };
    this.#add(item);
    this.#openCalls.set(call, item);
  }

  #argue(call: number, delta: string): void {
    const item = this.#openCalls.get(call);
    if (!item || delta === "") return;
    const at = { item_id: item.id, output_index: this.#places.get(item) };
    if (item.type === "function_call") {
      item.arguments += delta;
      this.#send("response.function_call_arguments.delta", { ...at, delta });
    } else {
      item.input += delta;
      this.#send("response.custom_tool_call_input.delta", { ...at, delta });
    }
  }

  /** The part of the message that is being said, which begins now if another kind was. */
  #content(type: "output_text" | "refusal") {
    let item = this.#open;
    if (item?.type !== "message") {
      this.#closeAll();
      item = {
        id: this.#newId("msg"),
        type: "message",
        role: "assistant",
        status: "in_progress",
        content: [],
      };
      this.#add(item);
      this.#open = item;
    }
    let part = item.content.at(-1);
    const isNew = part?.type !== type;
    if (isNew && part) this.#closePart(item, part);
    if (!part || isNew) {
      part =
        type === "refusal"
          ? { type, refusal: "" }
          : { type, text: "", annotations: [], logprobs: [] };
      item.content.push(part);
      this.#send("response.content_part.added", {
        item_id: item.id,
        ...this.#placeOf(item),
        part: { ...part },
      });
    }
    return { item, part, at: this.#placeOf(item) };
  }

  #placeOf(item: MessageItem) {
    return { output_index: this.#places.get(item), content_index: item.content.length - 1 };
  }

  #add(item: OutputItem): void {
    const output_index = this.#output.push(item) - 1;
    this.#places.set(item, output_index);
    this.#send("response.output_item.added", { output_index, item: structuredClone(item) });
  }

  #closeAll(): void {
    this.#closeOpen();
    for (const item of this.#openCalls.values()) this.#closeCall(item);
    this.#openCalls.clear();
  }

  #closeOpen(): void {
    const item = this.#open;
    this.#open = undefined;
    if (!item) return;
    if (item.type === "message") {
      const part = item.content.at(-1);
      if (part) this.#closePart(item, part);
      item.status = "completed";
    } else this.#closeSummary(item);
    this.#done(item);
  }

  #closePart(item: MessageItem, part: OutputText | RefusalContent): void {
    const where = { item_id: item.id, ...this.#placeOf(item) };
    if (part.type === "refusal")
      this.#send("response.refusal.done", { ...where, refusal: part.refusal });
    else {
      const { text } = part;
      this.#send("response.output_text.done", { ...where, text, logprobs: [] });
    }
    this.#send("response.content_part.done", { ...where, part });
  }

  #closeSummary(item: ReasoningItem): void {
    const [part] = item.summary;
    if (!part) return;
    const at = { item_id: item.id, output_index: this.#places.get(item), summary_index: 0 };
    this.#send("response.reasoning_summary_text.done", { ...at, text: part.text });
    this.#send("response.reasoning_summary_part.done", { ...at, part });
  }

  #closeCall(item: CallItem): void {
    const at = { item_id: item.id, output_index: this.#places.get(item) };
    if (item.type === "function_call") {
      item.arguments ||= "{}";
      const { name, arguments: text } = item;
      this.#send("response.function_call_arguments.done", { ...at, name, arguments: text });
    } else {
      this.#send("response.custom_tool_call_input.done", { ...at, input: item.input });
    }
    item.status = "completed";
    this.#done(item);
  }

  #done(item: OutputItem): void {
    this.#send("response.output_item.done", { output_index: this.#places.get(item), item });
  }

  /** Items are called after their response, so no two are called alike. */
  #newId(kind: string): string {
    return `${kind}_${toResponseId(this.#head).slice(5)}_${this.#output.length}`;
  }

  #send(type: string, fields: object): void {
    const event = { type, sequence_number: this.#sequence++, ...fields };
    this.#frames.push(formatSse(JSON.stringify(event), type));
  }

  #flush(): Uint8Array | undefined {
    if (this.#frames.length === 0) return undefined;
    const bytes = Buffer.from(this.#frames.join(""));
    this.#frames = [];
    return bytes;
  }
}
