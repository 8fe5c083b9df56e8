/** What a folder of addresses needs of the gateway's door to mount itself on it. */
import type { Context, Env } from "hono";
import type { Principal } from "../metering/types.ts";

export type Door<E extends Env> = {
  /** @throws HubError for a key that is none, or an admin's */
  principalOf(c: Context<E>): Principal;
  /** The headers that every answer carries. */
  headers(c: Context<E>): Record<string, string>;
  json(c: Context<E>, body: unknown): Response;
  /** Runs what a stop of the gateway has to wait for. @throws HubError `shutting_down`, `server_is_overloaded` */
  admit<T>(work: () => Promise<T>): Promise<T>;
  /** Answers other methods than `allowed`, such as `GET or POST`; after the routes that there are. */
  refuseOthers(path: string, allowed: string): void;
};
