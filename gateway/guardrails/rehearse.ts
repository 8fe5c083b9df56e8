/** `POST /api/guardrails/test`: what a project's guardrails would do to a text that goes nowhere. */
import { z } from "zod";
import { HubError, invariant, parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { Guardrail } from "../../sdk/protocol/guardrails.ts";
import type { GatewayLimits } from "../config.ts";
import { readJsonBody } from "../http/body.ts";
import type { Principal } from "../metering/types.ts";
import { Guard } from "./guard.ts";
import type { GuardReport } from "./report.ts";

const rehearsal = z.strictObject({
  text: z.string().max(20_000),
  /** As what it is looked at: a request's last turn, or a model's answer. */
  on: z.enum(["request", "answer"]).default("request"),
});

const told = z.object({
  name: z.string(),
  type: z.string(),
  /** `asks`: a webhook or a model, which nobody asked. `elsewhere`: it looks at the other side alone. */
  outcome: z.enum(["passes", "acts", "unknown", "asks", "elsewhere", "not_reached"]),
  action: z.string(),
  hits: z.int(),
  kinds: z.record(z.string(), z.int()).optional(),
});
export const rehearsed = z.object({
  object: z.literal("guardrails.test"),
  on: rehearsal.shape.on,
  verdict: z.enum(["passes", "blocked", "own"]),
  /** As it would go on, where it would. */
  text: z.string().nullable(),
  guards: z.array(told),
});
export { rehearsal };

/** Nobody is asked, so nothing is billed. @throws HubError as the text would be refused whatever guards find */
export async function rehearse(
  request: Request,
  { project }: Principal,
  limits: GatewayLimits,
): Promise<z.infer<typeof rehearsed>> {
  const { value } = await readJsonBody(request, limits);
  const { text, on } = parseOrThrow(rehearsal, value);
  let left: string | null = text;
  let isOwn = false;
  const guards: z.infer<typeof told>[] = [];
  for (const guard of project.guardrails ?? []) {
    const { name, type, action } = guard;
    const about = { name, type, action, hits: 0 };
    if (!guard.on.includes(on)) guards.push({ ...about, outcome: "elsewhere" });
    else if (left === null) guards.push({ ...about, outcome: "not_reached" });
    else if (type === "webhook" || type === "model") guards.push({ ...about, outcome: "asks" });
    else {
      const looked = await look(guard, left, on);
      left = looked.left;
      isOwn ||= looked.isOwn;
      const { hits = 0, kinds, unknown } = looked.report ?? {};
      const outcome = hits > 0 ? "acts" : unknown ? "unknown" : "passes";
      guards.push({ ...about, outcome, hits, ...(kinds && { kinds }) });
    }
  }
  const verdict = left === null ? "blocked" : isOwn ? "own" : "passes";
  return { object: "guardrails.test", on, verdict, text: left, guards };
}

type Looked = { left: string | null; isOwn: boolean; report: GuardReport | undefined };

/** One guard at what those before it left. */
async function look(settings: Guardrail, text: string, on: "request" | "answer"): Promise<Looked> {
  const content = { content: text };
  const request = {
    body: on === "request" ? content : {},
    user: () => text,
    isMutable: true,
    wantsJson: false,
  };
  const guard = new Guard([settings], request, async () => {
    invariant(false, "a rehearsal asks nobody");
  });
  const after = async (): Promise<string | null> => {
    if (on === "answer") {
      const passed = await guard.checkAnswer(content, { all: text, text });
      return (passed as typeof content).content;
    }
    await guard.checkRequest();
    if (guard.refusal) throw guard.refusal;
    return guard.mask(content).content;
  };
  const left = await after().catch((error: unknown) => {
    if (error instanceof HubError && error.code === "guardrail_blocked") return null;
    throw error;
  });
  return { left, isOwn: guard.ownOnly, report: guard.reports()[0] };
}
