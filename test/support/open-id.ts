/** A real OpenID provider on loopback, and a browser that logs in there. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import Provider from "oidc-provider";

export const providerSecret = "a secret of the test's client";

/** A browser: keeps cookies of each origin, follows redirects, fills the provider's forms. */
export class Browser {
  readonly #door: string;
  readonly jars = new Map<string, Map<string, string>>();
  readonly setCookies: string[] = [];

  /** @param door the gateway's address */
  constructor(door: string) {
    this.#door = door;
  }

  async ask(url: string, init: RequestInit = {}): Promise<Response> {
    const { origin } = new URL(url);
    const jar = this.jars.get(origin) ?? new Map<string, string>();
    this.jars.set(origin, jar);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join("; ");
    const headers = { ...(init.headers as object), ...(cookie && { cookie }) };
    const response = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const line of response.headers.getSetCookie()) {
      this.setCookies.push(line);
      const [, name = "", value = ""] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (value === "") jar.delete(name);
      else jar.set(name, value);
    }
    return response;
  }

  /** @returns the address that the provider sent back to, not yet asked for */
  async leave(as: string, from = `${this.#door}/auth/login`): Promise<string> {
    let url = from;
    for (let step = 0; step < 20; step++) {
      const response = await this.ask(url);
      const location = response.headers.get("location");
      if (location !== null) {
        url = new URL(location, url).href;
        if (url.startsWith(`${this.#door}/auth/callback`)) return url;
        continue;
      }
      const page = await response.text();
      const action = /action="([^"]+)"/.exec(page)?.[1] ?? "";
      const prompt = /name="prompt" value="(\w+)"/.exec(page)?.[1] ?? "";
      const answer = await this.ask(new URL(action, url).href, {
        method: "POST",
        body: new URLSearchParams({ prompt, login: as, password: "any" }),
      });
      url = new URL(answer.headers.get("location") ?? "", url).href;
    }
    throw new Error(`no way back from ${url}`);
  }

  async logIn(as: string): Promise<Response> {
    return this.ask(await this.leave(as));
  }

  call(method: string, path: string, body?: object): Promise<Response> {
    return this.ask(this.#door + path, {
      method,
      headers: { origin: this.#door, "sec-fetch-site": "same-origin" },
      ...(body && { body: JSON.stringify(body) }),
    });
  }

  get token(): string | undefined {
    return this.jars.get(this.#door)?.get("switchyard_session");
  }
}

/** @param redirectUri where the one client is sent back to @param groupsOf the claim `groups` of each account */
export async function startProvider(
  redirectUri: string,
  groupsOf: Readonly<Record<string, readonly string[]>>,
): Promise<{ server: Server; url: string }> {
  const server = createServer();
  const url = await listen(server);
  const provider = new Provider(url, {
    clients: [
      {
        client_id: "switchyard",
        client_secret: providerSecret,
        token_endpoint_auth_method: "client_secret_post",
        redirect_uris: [redirectUri],
      },
    ],
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        email: `${id}@example.com`,
        email_verified: !id.startsWith("unverified"),
        name: id[0]?.toUpperCase() + id.slice(1),
        groups: groupsOf[id],
      }),
    }),
    claims: { openid: ["sub", "groups"], email: ["email", "email_verified"], profile: ["name"] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    cookies: { keys: ["a key of the test"] },
  });
  server.on("request", provider.callback());
  return { server, url };
}

export async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
