/** `POST /api/routes/explain`: the plan for a request that is not sent anywhere. */
import { z } from "zod";
import { chatMessage } from "../sdk/protocol/chat.ts";
import { parseOrThrow } from "../sdk/protocol/errors.ts";
import { planCall } from "./answer-call.ts";
import type { AppParts } from "./app.ts";
import { toChatCall } from "./dialects/openai-chat/request.ts";
import { readJsonBody, refuseDeeper } from "./http/body.ts";
import type { Decision } from "./routing/plan.ts";
import type { Scope } from "./routing/resolve.ts";

/** @throws HubError as the request itself would have been refused */
export async function explain(request: Request, scope: Scope, parts: AppParts): Promise<Decision> {
  const read = await readJsonBody(request, parts.limits);
  const { task, ...body } = parseOrThrow(explainRequest, read.value);
  refuseDeeper(read, parts.limits.nestingMax);
  return planCall(toChatCall(body, read.bytes), task ?? null, scope, parts).decision;
}

export const explainRequest = z.looseObject({
  model: z.string(),
  messages: z.array(chatMessage).min(1),
  task: z.string().nullish(),
});
