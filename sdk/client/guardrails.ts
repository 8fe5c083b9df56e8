/** What a project's guardrails would do to a text. */
import type { Transport } from "./transport.ts";

export type GuardrailsTest = {
  on: "request" | "answer";
  verdict: "passes" | "blocked" | "own";
  /** As it would go on; null where it would not. */
  text: string | null;
  guards: {
    name: string;
    type: string;
    outcome: string;
    action: string;
    hits: number;
    kinds?: Record<string, number>;
  }[];
};

export class Guardrails {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Nothing is sent to any model, webhook or judge. */
  test(body: { text: string; on?: "request" | "answer" | undefined }): Promise<GuardrailsTest> {
    return this.#transport.call("/api/guardrails/test", {
      method: "POST",
      key: "project",
      json: body,
    });
  }
}
