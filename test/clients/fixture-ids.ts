/** Real things for the ids that OpenAI's suites made up, each made anew, through the API, for every request that names one. */
import type { Stage } from "./stage.ts";

/** @returns what makes a thing for an alias, and tells its id; undefined for what is no alias, or cannot be made */
export function makeIds({ url, apiKey }: Pick<Stage, "url" | "apiKey">) {
  const authorization = `Bearer ${apiKey}`;
  const post = async (path: string, body: object | FormData) => {
    const isForm = body instanceof FormData;
    const response = await fetch(`${url}/v1${path}`, {
      method: "POST",
      headers: { authorization, ...(!isForm && { "content-type": "application/json" }) },
      body: isForm ? body : JSON.stringify(body),
    });
    const made = (await response.json()) as { id?: string };
    return response.ok ? made : {};
  };
  const messages = [{ role: "user", content: "Hello" }];
  const file = () => {
    const form = new FormData();
    const line = {
      custom_id: "1",
      method: "POST",
      url: "/v1/responses",
      body: { model, input: "Hi" },
    };
    form.set("purpose", "batch");
    form.set("file", new Blob([`${JSON.stringify(line)}\n`]), "lines.jsonl");
    return post("/files", form);
  };
  const response = () => post("/responses", { model, input: "Hello" });
  /** One that can be cancelled, and streamed again. */
  const background = async () => {
    const asked = { model, input: "Hello", background: true, stream: true };
    const stream = await fetch(`${url}/v1/responses`, {
      method: "POST",
      headers: { authorization, "content-type": "application/json" },
      body: JSON.stringify(asked),
    });
    const [, id] = /"id":"(resp_[^"]+)"/.exec(await stream.text()) ?? [];
    return id === undefined ? response() : { id };
  };
  const completion = () => post("/chat/completions", { model, messages, store: true });
  let item: string | undefined;
  const conversation = async () => {
    const items = [{ type: "message", role: "user", content: "Hello" }];
    const made = await post("/conversations", { items });
    const { data } = (await (
      await fetch(`${url}/v1/conversations/${made.id}/items`, { headers: { authorization } })
    ).json()) as { data?: { id: string }[] };
    item = data?.[0]?.id;
    return made;
  };
  const makers: Record<string, () => Promise<{ id?: string }>> = {
    file_id: file,
    input_file_id: file,
    "file-abc123": file,
    async batch_id() {
      const { id: input_file_id } = await file();
      return post("/batches", {
        input_file_id,
        endpoint: "/v1/responses",
        completion_window: "24h",
      });
    },
    completion_id: completion,
    response_id: background,
    previous_response_id: response,
    resp_123: response,
    resp_677efb5139a88190b512bc3fef8e535d: background,
    upload_abc123: () =>
      post("/uploads", {
        bytes: 12,
        filename: "lines.jsonl",
        mime_type: "application/jsonl",
        purpose: "batch",
      }),
    conv_123: conversation,
    async msg_abc() {
      return item === undefined ? {} : { id: item };
    },
  };
  return (alias: string): Promise<string | undefined> | undefined =>
    Object.hasOwn(makers, alias) ? makers[alias]?.().then(({ id }) => id) : undefined;
}

const model = "gpt-4o-mini";
