/**
 * `POST /v1/responses` of the emulated OpenAI: the same answers as items and events, written from the published format
 * (platform.openai.com/docs/api-reference/responses-streaming, read 2026-11-21).
 */
import type { ServerResponse } from "node:http";
import type { EmulatedAnswer, EmulatedRequest, EmulatedUsage } from "./openai.ts";
import { type Pieces, words } from "./pieces.ts";

let responses = 0;

/** @param fault `split` sends seven bytes at a time, `cut` breaks the stream off before its end, `error-event` says why, `failed` ends it so */
export function answerAsResponse(
  response: ServerResponse,
  request: EmulatedRequest,
  answer: EmulatedAnswer & { usage: EmulatedUsage },
  { fault, pieces }: { fault: string | undefined; pieces: Pieces },
): void {
  const id = `resp_emulated_${++responses}`;
  const output = itemsOf(answer, id);
  const whole = (status: string, more: object = {}) => ({
    id,
    object: "response",
    created_at: 1_780_000_000,
    completed_at: null,
    status,
    background: false,
    error: null,
    frequency_penalty: 0,
    incomplete_details: null,
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    max_tool_calls: null,
    metadata: request.metadata ?? {},
    model: request.model,
    output: [],
    parallel_tool_calls: true,
    presence_penalty: 0,
    prompt_cache_key: null,
    reasoning: { effort: null, summary: null },
    safety_identifier: null,
    service_tier: "default",
    store: request.store ?? true,
    temperature: 1,
    text: { format: { type: "text" } },
    tool_choice: "auto",
    top_logprobs: 0,
    truncation: "disabled",
    tools: ((request.tools ?? []) as { type?: string }[]).map((tool) =>
      tool.type === "function"
        ? { description: null, parameters: null, strict: true, ...tool }
        : tool,
    ),
    top_p: 1,
    previous_response_id: request.previous_response_id ?? null,
    usage: null,
    ...more,
  });
  const cut = answer.finish === "length" || answer.finish === "content_filter";
  const reason = answer.finish === "length" ? "max_output_tokens" : "content_filter";
  const done = whole(cut ? "incomplete" : "completed", {
    output,
    completed_at: 1_780_000_001,
    ...(cut && { incomplete_details: { reason } }),
    usage: usageOf(answer.usage),
  });
  if (request.stream !== true) {
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(done));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  let sequence_number = 0;
  let frames = "";
  const send = (type: string, fields: object) => {
    const event = { type, sequence_number: sequence_number++, ...fields };
    frames += `event: ${type}\ndata: ${JSON.stringify(event)}\n\n`;
  };
  send("response.created", { response: whole("in_progress") });
  send("response.in_progress", { response: whole("in_progress") });
  for (const [output_index, item] of output.entries())
    sendItem(send, item, { output_index, pieces });
  if (fault === "cut") {
    response.write(frames);
    // What was written before a cut arrives; a receiver drops what comes together with it.
    setTimeout(() => response.socket?.destroy(), 20);
    return;
  }
  if (fault === "error-event") {
    send("error", { code: "server_error", message: "overloaded", param: null });
  } else if (fault === "failed") {
    const error = { code: "server_error", message: "overloaded" };
    send("response.failed", { response: whole("failed", { error }) });
  } else send(cut ? "response.incomplete" : "response.completed", { response: done });
  if (fault === "split") void writeInPieces(response, Buffer.from(frames));
  else response.end(frames);
}

async function writeInPieces(response: ServerResponse, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 7) {
    response.write(bytes.subarray(at, at + 7));
    await new Promise(setImmediate);
  }
  response.end();
}

type Send = (type: string, fields: object) => void;

function sendItem(
  send: Send,
  item: Item,
  { output_index, pieces }: { output_index: number; pieces: Pieces },
): void {
  const at = { item_id: item.id, output_index };
  switch (item.type) {
    case "reasoning": {
      const [part] = item.summary;
      const where = { ...at, summary_index: 0 };
      send("response.output_item.added", { output_index, item: { ...item, summary: [] } });
      send("response.reasoning_summary_part.added", { ...where, part: { ...part, text: "" } });
      const text = part?.text ?? "";
      for (const delta of pieces === words ? [text] : pieces(text)) {
        send("response.reasoning_summary_text.delta", { ...where, delta });
      }
      send("response.reasoning_summary_text.done", { ...where, text: part?.text });
      send("response.reasoning_summary_part.done", { ...where, part });
      break;
    }
    case "message": {
      const begun = { ...item, status: "in_progress", content: [] };
      send("response.output_item.added", { output_index, item: begun });
      for (const [content_index, part] of item.content.entries()) {
        sendPart(send, part, { where: { ...at, content_index }, pieces });
      }
      break;
    }
    case "function_call": {
      const { name, arguments: text } = item;
      const begun = { ...item, status: "in_progress", arguments: "" };
      send("response.output_item.added", { output_index, item: begun });
      for (const delta of text.match(/.{1,5}/gs) ?? []) {
        send("response.function_call_arguments.delta", { ...at, delta });
      }
      send("response.function_call_arguments.done", { ...at, name, arguments: text });
      break;
    }
    case "custom_tool_call": {
      const { input } = item;
      send("response.output_item.added", { output_index, item: { ...item, input: "" } });
      for (const delta of input.match(/.{1,5}/gs) ?? []) {
        send("response.custom_tool_call_input.delta", { ...at, delta });
      }
      send("response.custom_tool_call_input.done", { ...at, input });
      break;
    }
    default:
      item satisfies never;
  }
  send("response.output_item.done", { output_index, item });
}

function sendPart(
  send: Send,
  part: Part,
  { where, pieces }: { where: object; pieces: Pieces },
): void {
  if (part.type === "refusal") {
    const { refusal } = part;
    send("response.content_part.added", { ...where, part: { ...part, refusal: "" } });
    for (const delta of pieces(refusal)) send("response.refusal.delta", { ...where, delta });
    send("response.refusal.done", { ...where, refusal });
    send("response.content_part.done", { ...where, part });
    return;
  }
  const { text, annotations, logprobs } = part;
  const begun = { ...part, text: "", annotations: [], logprobs: [] };
  send("response.content_part.added", { ...where, part: begun });
  for (const [index, delta] of pieces(text).entries()) {
    const told = logprobs.slice(index, index + 1);
    send("response.output_text.delta", { ...where, delta, logprobs: told });
  }
  for (const [annotation_index, annotation] of annotations.entries()) {
    const cited = { ...where, annotation_index, annotation };
    send("response.output_text.annotation.added", cited);
  }
  send("response.output_text.done", { ...where, text, logprobs });
  send("response.content_part.done", { ...where, part });
}

type Part = ReturnType<typeof partsOf>[number];
type Item = ReturnType<typeof itemsOf>[number];

function partsOf({ content, refusal, citations = [], logprobs = [] }: EmulatedAnswer) {
  const annotations = citations.map((one) => ({ type: "url_citation", ...one }));
  const text = { type: "output_text" as const, text: content, annotations, logprobs };
  return [
    ...(content === "" ? [] : [text]),
    ...(refusal === undefined ? [] : [{ type: "refusal" as const, refusal }]),
  ];
}

function itemsOf(answer: EmulatedAnswer, id: string) {
  const { reasoning, toolCalls = [] } = answer;
  const parts = partsOf(answer);
  return [
    ...(reasoning === undefined
      ? []
      : [
          {
            id: `rs_${id}`,
            type: "reasoning" as const,
            summary: [{ type: "summary_text" as const, text: reasoning }],
            encrypted_content: "gAAAAA-sealed",
          },
        ]),
    ...(parts.length === 0
      ? []
      : [
          {
            id: `msg_${id}`,
            type: "message" as const,
            role: "assistant",
            status: "completed",
            content: parts,
          },
        ]),
    ...toolCalls.map(({ id: call_id, name, arguments: text, custom }) =>
      custom
        ? {
            id: `ctc_${call_id}`,
            type: "custom_tool_call" as const,
            call_id,
            name,
            input: text,
            status: "completed",
          }
        : {
            id: `fc_${call_id}`,
            type: "function_call" as const,
            call_id,
            name,
            arguments: text,
            status: "completed",
          },
    ),
  ];
}

function usageOf(usage: EmulatedUsage): object {
  return {
    input_tokens: usage.prompt_tokens,
    input_tokens_details: {
      cached_tokens: 0,
      cache_write_tokens: 0,
      ...usage.prompt_tokens_details,
    },
    output_tokens: usage.completion_tokens,
    output_tokens_details: {
      reasoning_tokens: usage.completion_tokens_details?.reasoning_tokens ?? 0,
    },
    total_tokens: usage.total_tokens,
  };
}
