/** Logging in at an OpenID provider: the authorization code flow with PKCE, and who came back from it. */
import * as client from "openid-client";
import { z } from "zod";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Role, role } from "../../sdk/protocol/roles.ts";
import { program } from "./programs.ts";
import type { SignInSettings } from "./settings.ts";

/** What has to be remembered between leaving for the provider and coming back. */
export const pendingLogin = z.strictObject({
  state: z.string(),
  nonce: z.string(),
  verifier: z.string(),
  startedAtMs: z.number(),
  /** Where a program asked for the login. */
  program: program.optional(),
});
export type PendingLogin = z.infer<typeof pendingLogin>;

export type Person = {
  issuer: string;
  subject: string;
  email?: string;
  /** The provider says that it looked. */
  emailVerified: boolean;
  name?: string;
  /** Absent for who is in no group that stands for one; an invitation may let them in. */
  role?: Role;
};

export class OpenIdProvider {
  readonly #settings: SignInSettings;
  readonly #secret: string | undefined;
  readonly #redirectUri: string;
  #discovered: Promise<client.Configuration> | undefined;

  constructor(settings: SignInSettings, secret: string | undefined) {
    this.#settings = settings;
    this.#secret = secret;
    this.#redirectUri = new URL("/auth/callback", settings.publicUrl).href;
  }

  /** @returns where to send the person, and what to remember until they are back */
  async leave(nowMs: number): Promise<{ url: URL; pending: Omit<PendingLogin, "program"> }> {
    const config = await this.#configuration();
    const pending = {
      state: client.randomState(),
      nonce: client.randomNonce(),
      verifier: client.randomPKCECodeVerifier(),
      startedAtMs: nowMs,
    };
    const url = client.buildAuthorizationUrl(config, {
      redirect_uri: this.#redirectUri,
      scope: this.#settings.scopes,
      state: pending.state,
      nonce: pending.nonce,
      code_challenge: await client.calculatePKCECodeChallenge(pending.verifier),
      code_challenge_method: "S256",
    });
    return { url, pending };
  }

  /**
   * Changes the code for an ID token, whose signature, issuer, audience, times and nonce are checked.
   * @param search of the address that the provider sent the person back to
   * @throws HubError `permission_denied` for a login that failed
   */
  async arrive(search: string, { state, nonce, verifier }: PendingLogin): Promise<Person> {
    const config = await this.#configuration();
    const claims = await client
      .authorizationCodeGrant(config, new URL(this.#redirectUri + search), {
        expectedState: state,
        expectedNonce: nonce,
        pkceCodeVerifier: verifier,
        idTokenExpected: true,
      })
      .then((tokens) => tokens.claims())
      .catch((cause) => {
        throw new HubError("permission_denied", "The login failed. Begin again.", { cause });
      });
    if (!claims) throw new HubError("permission_denied", "The login told nothing of the person.");
    const role = this.#roleOf(claims[this.#settings.claim]);
    const { iss: issuer, sub: subject, email_verified: verified } = claims;
    const emailVerified = verified === true;
    return { issuer, subject, ...textsOf(claims), emailVerified, ...(role && { role }) };
  }

  /** The greatest that any of the groups stands for. */
  #roleOf(claim: unknown): Role | undefined {
    const { roles, otherwise } = this.#settings;
    const groups = [claim].flat().filter((it) => typeof it === "string");
    return role.options.find((it) => roles[it]?.some((name) => groups.includes(name))) ?? otherwise;
  }

  /** Found out once; a provider that is away is asked again by the next who logs in. */
  #configuration(): Promise<client.Configuration> {
    const { issuer, clientId } = this.#settings;
    this.#discovered ??= client
      .discovery(
        new URL(issuer),
        clientId,
        undefined,
        this.#secret === undefined ? client.None() : client.ClientSecretPost(this.#secret),
        {
          timeout: timeoutSeconds,
          execute: [
            // The token comes straight from the provider; its signature is checked nevertheless.
            client.enableNonRepudiationChecks,
            ...(new URL(issuer).protocol === "http:" ? [client.allowInsecureRequests] : []),
          ],
        },
      )
      .catch((cause) => {
        this.#discovered = undefined;
        throw new HubError("upstream_unavailable", "The OpenID provider cannot be reached.", {
          cause,
          retryAfterMs: 1000,
        });
      });
    return this.#discovered;
  }
}

function textsOf({ email, name }: Record<string, unknown>) {
  return {
    ...(typeof email === "string" && email !== "" && { email: email.slice(0, 320) }),
    ...(typeof name === "string" && name !== "" && { name: name.slice(0, 256) }),
  };
}

const timeoutSeconds = 10;
