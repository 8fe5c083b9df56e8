/** Small pieces of SQL that the reports put together; values always travel as parameters. */
import type postgres from "postgres";

export type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** `a and b and c`; `true` for none. */
export function all(sql: postgres.Sql, conditions: readonly Fragment[]): Fragment {
  return conditions.reduce((joined, condition) => sql`${joined} and ${condition}`, sql`true`);
}

/** `a, b, c`, of one or more. */
export function columnList(sql: postgres.Sql, columns: readonly Fragment[]): Fragment {
  return columns.reduce((joined, column) => sql`${joined}, ${column}`);
}

/** A moment as a parameter that no driver setting can turn into something else. */
export function at(sql: postgres.Sql, ms: number): Fragment {
  return sql`${new Date(ms).toISOString()}::text::timestamptz`;
}

/** Counts fit a double exactly up to 2⁵³; the driver hands them over as text. */
export function count(value: unknown): number | null {
  return value === null || value === undefined ? null : Number(value);
}
