/** The families that we can import, found by the architecture that a config names. */
import { z } from "zod";
import { HubError } from "../../../sdk/protocol/errors.ts";
import type { Family } from "../model-spec.ts";
import { gemma3 } from "./gemma3.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { phi3 } from "./phi3.ts";
import { qwen2 } from "./qwen2.ts";
import { qwen3 } from "./qwen3.ts";

/** @throws HubError `unsupported_model` that names the architecture and those that are known */
export function familyOf(config: unknown): Family {
  const parsed = z.object({ architectures: z.array(z.string()).min(1) }).safeParse(config);
  const architecture = parsed.data?.architectures[0] ?? "none";
  const family = families.find((candidate) => candidate.architecture === architecture);
  if (family) return family;
  const known = families.map((candidate) => candidate.architecture).join(", ");
  throw new HubError(
    "unsupported_model",
    `config.json: architecture '${architecture}' is not supported; known are ${known}.`,
  );
}

const families: readonly Family[] = [llama, qwen2, qwen3, mistral, phi3, gemma3];
