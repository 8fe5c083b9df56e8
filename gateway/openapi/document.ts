/** `GET /openapi.json`: what is served, for programs that make clients and tests of it. */
import packageJson from "../../package.json" with { type: "json" };
import { type Json, writeDocument } from "../../sdk/protocol/openapi/document.ts";
import { operations, schemas } from "./operations.ts";

let written: Json | undefined;

/** Written when it is first asked for, and kept: it is the same until the program is another one. */
export function openApiDocument(): Json {
  written ??= writeDocument({
    info: {
      title: "Switchyard",
      version: packageJson.version,
      description:
        "One door to language models, in the dialects of OpenAI, Anthropic, Google and AWS, and the admin API behind it.",
    },
    operations,
    schemas,
  });
  return written;
}
