/** Forgets what was kept for clients when its time is over, also where nobody keeps anything any more. */
import type postgres from "postgres";

export async function forgetExpired(sql: postgres.Sql, now: () => number): Promise<void> {
  const at = new Date(now()).toISOString();
  // What belongs to them goes with them.
  await sql`delete from gateway.responses where expires_at < ${at}`;
  await sql`delete from gateway.conversations where expires_at < ${at}`;
  await sql`delete from gateway.chat_completions where expires_at < ${at}`;
  // These are on the database's clock.
  await sql`delete from gateway.idempotent_requests where expires_at < clock_timestamp()`;
}
