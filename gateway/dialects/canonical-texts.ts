/** What rules and counts look at, of a request in canonical form. */
import type { CanonicalRequest, InputPart, OutputPart, Turn } from "../canonical/request.ts";
import type { CallTexts } from "./dialect.ts";

/** Texts, and how many pictures are between them. */
export function textsOf({
  instructions,
  turns,
  tools,
  output,
}: CanonicalRequest): CallTexts & { images: number } {
  const user = turns.findLast(({ role }) => role === "user");
  const later = turns.filter(({ role }) => role === "system");
  const parts = turns.map(partsOf);
  const all = [instructions, ...parts].map(joined).filter((text) => text !== "");
  return {
    system: [joined(instructions), ...later.map((turn) => joined(partsOf(turn)))].join("\n"),
    user: user ? joined(partsOf(user)) : "",
    all,
    schemas: [...tools, ...(output ? [output] : [])].map((one) => JSON.stringify(one)).join(""),
    images: parts.flat().filter(({ type }) => type === "image").length,
  };
}

type Part = InputPart | OutputPart;

function partsOf(turn: Turn): readonly Part[] {
  return turn.role === "tool" ? turn.result.parts : turn.parts;
}

function joined(parts: readonly Part[]): string {
  return parts.map(textOf).join("");
}

function textOf(part: Part): string {
  switch (part.type) {
    case "text":
    case "refusal":
    case "reasoning":
      return part.text;
    case "tool_call":
      return part.arguments;
    case "image":
    case "file":
    case "audio":
      return "";
    default:
      return part satisfies never;
  }
}
