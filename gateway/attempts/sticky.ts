/** What keeps requests together whose beginnings a provider remembers, because cached tokens cost a tenth. */
import { hash } from "node:crypto";
import type { Call } from "../dialects/dialect.ts";
import type { Stickiness } from "./upstream.ts";

/**
 * `named` is what the client itself says belongs together; `prefix` is, where it says nothing, how the prompt begins.
 * @returns `undefined` where any deployment will do
 */
export function stickyKeyOf(
  call: Call,
  { stickyBy, projectId }: { stickyBy: Stickiness; projectId: string },
): string | undefined {
  if (stickyBy === "nothing") return undefined;
  const key = namedKey(call) ?? (stickyBy === "prefix" ? prefixKey(call) : undefined);
  return key === undefined ? undefined : `${projectId}\0${key}`;
}

/** OpenAI's fields, and Anthropic's user. */
function namedKey({ body }: Call): string | undefined {
  const conversation = body.conversation as { id?: unknown } | string | null | undefined;
  const metadata = body.metadata as { user_id?: unknown } | null | undefined;
  const named = [
    body.prompt_cache_key,
    typeof conversation === "object" ? conversation?.id : conversation,
    body.user,
    body.safety_identifier,
    metadata?.user_id,
  ];
  return named.find((it): it is string => typeof it === "string" && it !== "")?.slice(0, charsMax);
}

/** The instructions and the first message: what every turn of a conversation begins with. */
function prefixKey(call: Call): string | undefined {
  const { all } = call.texts();
  if (all.length === 0) return undefined;
  return hash("sha256", all.slice(0, 2).join("\0").slice(0, charsMax));
}

const charsMax = 4096;
