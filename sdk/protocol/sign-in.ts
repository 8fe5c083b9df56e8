/** Logging in for a program: what the program, the browser's page and the gateway say to each other. */
import { z } from "zod";
import { whoami } from "./admin.ts";

/** `POST /auth/token`: the code that the browser came back with, and the secret that only who began has. */
export const loginRedemption = z.strictObject({
  code: z.string().min(1).max(8000),
  verifier: z.string().regex(/^[\w-]{43,128}$/),
});
export type LoginRedemption = z.infer<typeof loginRedemption>;

export const programSession = z.object({
  token: z.string(),
  expiresAt: z.string(),
  keyId: z.string(),
  user: whoami.shape.user.unwrap(),
});
export type ProgramSession = z.infer<typeof programSession>;

/** What a person compares between the terminal and the page: `ABCD-EFGH`. @param challenge SHA-256 of the secret, in base64url */
export function confirmationOf(challenge: string): string {
  const letters = challenge.replace(/[^A-Za-z0-9]/g, "").toUpperCase();
  return `${letters.slice(0, 4)}-${letters.slice(4, 8)}`;
}
