/** What evals found out about a candidate, as far as the asking project may rely on it. */
import type { Measurement } from "../../sdk/protocol/catalog.ts";
import type { Scope, Target } from "./resolve.ts";

/**
 * The newest measurement of the task for exactly these weights. A project relies on what it measured
 * itself; for an adapter that another project shares, else on what the owner measured. Nobody else's
 * counts: a tenant could otherwise steer another tenant's traffic by posting scores.
 */
export function findEvidence(task: string, target: Target, scope: Scope): Measurement | undefined {
  const all = scope.snapshot.measurements(task, target.model.id, target.adapter?.digest);
  return (
    all.find((it) => it.projectId === scope.projectId) ??
    all.find((it) => it.projectId === target.adapter?.projectId)
  );
}
