/** What guardrails did to one request: never what they found, only how often. */
import type { GuardAction } from "../../sdk/protocol/guardrails.ts";
import type { CompiledGuard } from "./compile.ts";

/** One guard that acted, for the decision record. Plain JSON. */
export type GuardReport = {
  name: string;
  type: string;
  on: "request" | "answer";
  action: GuardAction;
  hits: number;
  /** By kind, where a guard finds several. */
  kinds?: Record<string, number>;
  /** Texts of which it could not be told. */
  unknown?: number;
  /** Why somebody else who was asked gave no verdict. */
  failure?: string;
};

export class Reports {
  readonly #reports = new Map<string, GuardReport>();

  hit(
    { guard: { name, type, action } }: CompiledGuard,
    on: GuardReport["on"],
    { kind, failure }: { kind?: string; failure?: string } = {},
  ): void {
    const report = this.#reportOf({ name, type, action }, on);
    report.hits++;
    if (failure !== undefined) report.failure = failure;
    if (kind === undefined) return;
    report.kinds ??= {};
    report.kinds[kind] = (report.kinds[kind] ?? 0) + 1;
  }

  /** A guard that had nothing to go by, and whose project lets that pass. */
  unknown({ guard }: CompiledGuard, on: GuardReport["on"]): void {
    const report = this.#reportOf(guard, on);
    report.unknown = (report.unknown ?? 0) + 1;
  }

  #reportOf(
    { name, type, action }: Pick<GuardReport, "name" | "type" | "action">,
    on: GuardReport["on"],
  ): GuardReport {
    const id = `${on} ${name}`;
    const report = this.#reports.get(id) ?? { name, type, on, action, hits: 0 };
    this.#reports.set(id, report);
    return report;
  }

  all(): GuardReport[] {
    return [...this.#reports.values()];
  }

  /** Each guard that acted with what it did, as `pii=redact`, or `unknown`; `passed` where none did. */
  header(): string {
    const acted = this.all().map(
      ({ name, action, hits }) => `${name}=${hits > 0 ? action : "unknown"}`,
    );
    return acted.length > 0 ? [...new Set(acted)].join(", ") : "passed";
  }
}
