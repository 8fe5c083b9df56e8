/** Goes through all texts of a request or an answer, in whatever dialect it is written. */

/** @returns the text that stands in its place */
export type MapText = (text: string, about: { json: boolean }) => string;

type Members = Readonly<Record<string, unknown>>;

/**
 * A copy in which every text is what `map` makes of it; what does not change is the same object. Arguments of tools are
 * looked at as the values that they stand for, their names and numbers too, whether they come as JSON or as a text of it.
 */
export function mapStrings<T>(value: T, map: MapText): T {
  return mapMember(value, { name: "", beside: {}, map }) as T;
}

/** All texts, in their order, as `mapStrings` meets them. */
export function stringsIn(value: unknown): string[] {
  const found: string[] = [];
  mapStrings(value, (text) => {
    found.push(text);
    return text;
  });
  return found;
}

/** JSON that stands in a text, its values mapped; a text that is no JSON is mapped as it is. */
export function mapArguments(text: string, map: MapText): string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return map(text, { json: true });
  }
  const mapped = mapFree(value, map);
  return mapped === value ? text : JSON.stringify(mapped);
}

type Member = { name: string; beside: Members; map: MapText };

function mapMember(value: unknown, member: Member): unknown {
  const { name, map } = member;
  if (typeof value === "string") {
    if (structural.has(name) || isBytes(value, member)) return value;
    return name === "arguments" ? mapArguments(value, map) : map(value, { json: false });
  }
  if (Array.isArray(value)) return mapItems(value, (item) => mapMember(item, member));
  if (typeof value !== "object" || value === null) return value;
  if (isFree(member)) return mapFree(value, map);
  return mapMembers(value as Members, (one, name) =>
    mapMember(one, { name, beside: value as Members, map }),
  );
}

/** Values of which nobody knows the shape. */
function mapFree(value: unknown, map: MapText): unknown {
  if (typeof value === "string") return map(value, { json: false });
  if (typeof value === "number") {
    const text = String(value);
    const mapped = map(text, { json: false });
    return mapped === text ? value : mapped;
  }
  if (Array.isArray(value)) return mapItems(value, (item) => mapFree(item, map));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value);
  const mapped = entries.map(
    ([name, one]) => [map(name, { json: false }), mapFree(one, map)] as const,
  );
  const isSame = mapped.every(
    ([name, one], index) => name === entries[index]?.[0] && one === entries[index]?.[1],
  );
  return isSame ? value : Object.fromEntries(mapped);
}

function mapItems(items: readonly unknown[], map: (item: unknown) => unknown): readonly unknown[] {
  const mapped = items.map(map);
  return mapped.every((item, index) => item === items[index]) ? items : mapped;
}

function mapMembers(value: Members, map: (one: unknown, name: string) => unknown): Members {
  let changed: Record<string, unknown> | undefined;
  for (const [name, one] of Object.entries(value)) {
    const mapped = map(one, name);
    if (mapped === one) continue;
    changed ??= { ...value };
    changed[name] = mapped;
  }
  return changed ?? value;
}

/** Pictures, sounds and documents as base64: nobody looks into them here. */
function isBytes(value: string, { name, beside }: Member): boolean {
  if (name === "bytes" || name === "b64_json" || name === "file_data") return true;
  if (name === "data")
    return beside.type === "base64" || beside.type === "redacted_thinking" || hasMediaType(beside);
  return (name === "url" || name === "image_url") && /^data:[^,]{0,200};base64,/.test(value);
}

function hasMediaType({ mimeType, mime_type, format }: Members): boolean {
  return typeof (mimeType ?? mime_type ?? format) === "string";
}

/** What a tool is given or gives back, and what a client says of its request: names in it are nobody's protocol. */
function isFree({ name, beside }: Member): boolean {
  switch (name) {
    case "arguments":
    case "args":
    case "json":
    case "metadata":
    case "labels":
    case "requestMetadata":
      return true;
    case "input":
      return "type" in beside || "toolUseId" in beside;
    case "response":
      return typeof beside.name === "string";
    default:
      return false;
  }
}

/** Words of the protocol, ids, and what its maker sealed: none of them is said to anybody. */
const structural = new Set([
  ...["model", "role", "type", "object", "id", "status", "format", "detail", "effort", "phase"],
  ...["tool_call_id", "call_id", "tool_use_id", "toolUseId", "item_id", "response_id"],
  ...["previous_response_id", "conversation", "file_id", "responseId", "modelVersion"],
  ...["finish_reason", "stop_reason", "finishReason", "stopReason", "native_finish_reason"],
  ...["mimeType", "mime_type", "media_type", "service_tier", "serviceTier", "system_fingerprint"],
  ...["signature", "thoughtSignature", "thought_signature", "encrypted_content", "encrypted"],
  ...["encoding_format", "response_format", "voice"],
]);
