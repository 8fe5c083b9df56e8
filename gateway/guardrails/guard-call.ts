/** Where a request's way meets the guardrails of its project. */
import { anySignal } from "../../sdk/protocol/any-signal.ts";
import { asHubError, type HubError } from "../../sdk/protocol/errors.ts";
import type { AppParts } from "../app.ts";
import type { Call } from "../dialects/dialect.ts";
import { readChatCall } from "../dialects/openai-chat/request.ts";
import type { Exchange } from "../http/exchange.ts";
import type { Principal } from "../metering/types.ts";
import type { ProviderAnswer } from "../providers/provider.ts";
import { Guard } from "./guard.ts";
import { judgeRequest, readVerdict } from "./judge.ts";
import { askWebhook } from "./webhook.ts";

const guardrailsHeader = "x-switchyard-guardrails";

/** Answers a request of the gateway's own as a client's. */
type AnswerOwn = (
  request: Request,
  read: (projectId: string) => Promise<Call>,
) => Promise<Response>;

/** Looks at a request before anything is made of it. The guard tells what may become of it; only mistakes are thrown. */
export async function guardCall(
  call: Call,
  {
    principal,
    exchange,
    client,
  }: { principal: Principal; exchange: Exchange; client: AbortSignal },
  { limits }: Pick<AppParts, "limits">,
  answer: AnswerOwn,
): Promise<Guard> {
  const { project } = principal;
  const request = {
    body: call.passed?.() ?? call.body,
    user: () => call.texts().user,
    isMutable: call.form === undefined,
    wantsJson: wantsJson(call.body),
  };
  const guard = new Guard(project.guardrails ?? [], request, async (asked, texts) => {
    const signal = anySignal([client, AbortSignal.timeout(asked.timeoutMs)]);
    if (asked.type === "webhook") {
      return askWebhook(asked, {
        texts,
        project: project.id,
        requestId: exchange.requestId,
        signal,
      });
    }
    const own = judgeRequest(asked, { texts, principal, signal });
    if (!own) return true;
    const read = (projectId: string) => readChatCall(own, { limits, projectId, store: undefined });
    return readVerdict(await answer(own, read));
  });
  await guard.checkRequest();
  return guard;
}

/** A whole answer as it may pass, or why it may not. */
export async function guardAnswer(
  guard: Guard,
  answer: ProviderAnswer,
): Promise<{ answer: ProviderAnswer; refusal: HubError | undefined }> {
  if (!guard.watchesAnswer) return { answer, refusal: undefined };
  try {
    const isJson = (answer.contentType ?? "application/json").startsWith("application/json");
    if (!isJson && !answer.contentType?.startsWith("text/")) return { answer, refusal: undefined };
    const text = Buffer.from(answer.bytes).toString("utf8");
    const all = String(answer.text);
    const said = {
      all,
      get text() {
        return answer.told?.() ?? all;
      },
    };
    const whole = await guard.checkAnswer(isJson ? JSON.parse(text) : text, said);
    const bytes = Buffer.from(isJson ? JSON.stringify(whole) : String(whole));
    const { write: _, ...rest } = answer;
    return { answer: { ...rest, bytes, whole }, refusal: undefined };
  } catch (error) {
    return { answer, refusal: asHubError(error) };
  }
}

export function guardHeaders({ guard }: Call): Record<string, string> {
  return guard ? { [guardrailsHeader]: guard.header() } : {};
}

/** Whether what a model says is to be JSON, in which texts are escaped. */
function wantsJson(body: Readonly<Record<string, unknown>>): boolean {
  const { response_format, text, generationConfig, output_config, output_format, outputConfig } =
    body as Record<string, Record<string, unknown> | null | undefined>;
  const format = text?.format as { type?: unknown } | null | undefined;
  return (
    (typeof response_format?.type === "string" && response_format.type !== "text") ||
    (typeof format?.type === "string" && format.type !== "text") ||
    generationConfig?.responseMimeType === "application/json" ||
    output_config?.format != null ||
    output_format != null ||
    outputConfig != null
  );
}
