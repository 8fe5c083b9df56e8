/** Where people log in, and which claims make them what. */
import { z } from "zod";
import { role } from "../../sdk/protocol/roles.ts";

const names = z.array(z.string().min(1).max(256)).max(100);

export const signInSettings = z.strictObject({
  /** The OpenID provider; plain HTTP is for one on this machine. */
  issuer: z
    .url({ protocol: /^https?$/ })
    .refine(isSecureOrLocal, "expected https, except for a provider on this machine"),
  clientId: z.string().min(1).max(256),
  /** The environment variable that has the client's secret; absent for a public client. */
  clientSecretEnv: z.string().min(1).max(128).optional(),
  /** Where people reach this gateway, such as `https://llm.example.com`; the provider sends them back below it. */
  publicUrl: z
    .url({ protocol: /^https?$/ })
    .refine((text) => new URL(text).pathname === "/", "expected an origin without a path"),
  scopes: z.string().max(512).default("openid profile email"),
  /** The claim of the ID token with the person's groups, a text or a list. */
  claim: z.string().min(1).max(256).default("groups"),
  /** Groups by the role that they stand for; of several the greatest counts. */
  roles: z.partialRecord(role, names).default({}),
  /** For people in none of these groups; absent refuses them. */
  otherwise: role.optional(),
  sessionHours: z.number().positive().max(720).default(12),
});
export type SignInSettings = z.infer<typeof signInSettings>;

function isSecureOrLocal(text: string): boolean {
  const { protocol, hostname } = new URL(text);
  return protocol === "https:" || ["127.0.0.1", "[::1]", "localhost"].includes(hostname);
}
