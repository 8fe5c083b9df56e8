/** `/auth`: leaving for the OpenID provider, coming back with a session, and ending it. */
import type { Context, Env, Hono } from "hono";
import { HubError } from "../../sdk/protocol/errors.ts";
import { clientAddressOf } from "../http/client-address.ts";
import { OpenIdProvider, pendingLogin } from "./open-id.ts";
import { type People, readCookie, sessionIn } from "./people.ts";
import { createLoginCodes, programPage, readCode, readProgram } from "./programs.ts";
import { createSeal } from "./sealed.ts";

export type SignIn = { people: People; secret: string | undefined; operatorKey: string };

/** @param signIn absent where people do not log in: everything is as with keys alone */
export function mountSignIn<E extends Env>(
  app: Hono<E>,
  signIn: SignIn | undefined,
  { headers, now }: { headers: (c: Context<E>) => Record<string, string>; now: () => number },
): void {
  const provider = signIn && new OpenIdProvider(signIn.people.settings, signIn.secret);
  const seal = createSeal(signIn?.operatorKey ?? "", "login");
  const codes = createLoginCodes({ secret: signIn?.operatorKey ?? "", now });
  const required = () => {
    if (signIn && provider) return { people: signIn.people, provider };
    throw new HubError("not_found", "People do not log in at this Switchyard: it has no `signIn`.");
  };
  const answer = (c: Context<E>, status: number, cookies: string[], location?: string) => {
    const all = new Headers({ ...headers(c), "cache-control": "no-store" });
    for (const cookie of cookies) all.append("set-cookie", cookie);
    if (location !== undefined) all.set("location", location);
    return new Response(null, { status, headers: all });
  };

  app.get("/auth/login", async (c) => {
    const { people, provider } = required();
    const { url, pending: left } = await provider.leave(now());
    const asking = readProgram(new URL(c.req.url).searchParams);
    const pending = { ...left, ...(asking && { program: asking }) };
    return answer(
      c,
      302,
      [cookie(people, pendingName(people), seal.seal(pending), loginSeconds)],
      url.href,
    );
  });

  app.get("/auth/callback", async (c) => {
    const { people, provider } = required();
    const pending = pendingLogin.safeParse(
      seal.open(readCookie(c.req.raw, pendingName(people)) ?? ""),
    );
    if (!pending.success || pending.data.startedAtMs + loginSeconds * 1000 < now()) {
      throw new HubError("permission_denied", "This login was not begun here, or too long ago.");
    }
    const { sessionHours: hours } = people.settings;
    const person = {
      ...(await provider.arrive(new URL(c.req.url).search, pending.data)),
      hours,
    };
    const { program } = pending.data;
    if (program) {
      // Nothing is opened before the person said that it was them, and the browser itself is not logged in by that.
      const code = codes.make({ person, challenge: program.challenge });
      const done = cookie(people, pendingName(people), "", 0);
      const page = programPage({ program, code, who: person.email ?? person.name ?? "you" });
      return new Response(page.html, {
        headers: { ...headers(c), ...page.headers, "set-cookie": done },
      });
    }
    const { token } = await people.open(person, clientAddressOf(c.req.raw));
    const cookies = [
      cookie(people, people.cookieName, token, Math.floor(hours * 3600)),
      cookie(people, pendingName(people), "", 0),
    ];
    return answer(c, 302, cookies, "/");
  });

  /** A program changes the code, which a person handed it, for a session, which is opened by that. */
  app.post("/auth/token", async (c) => {
    const { people } = required();
    const person = codes.redeem(await readCode(c.req.raw));
    const { token, expiresAt } = await people.open(person, clientAddressOf(c.req.raw));
    const { keyId, user } = await people.personOf(token);
    const answered = { ...headers(c), "cache-control": "no-store" };
    return Response.json({ token, expiresAt, keyId, user }, { headers: answered });
  });

  /** Who is logged in, for the page, which gets another token for the same session with it. */
  app.get("/auth/session", async (c) => {
    const all = new Headers({ ...headers(c), "cache-control": "no-store" });
    const token = signIn && readCookie(c.req.raw, signIn.people.cookieName);
    if (!token)
      return Response.json({ enabled: signIn !== undefined, user: null }, { headers: all });
    const { people } = signIn;
    try {
      const { user } = await people.personOf(token);
      // A request from elsewhere gets none: only the page itself says that it is of this origin.
      if (c.req.header("sec-fetch-site") === "same-origin") {
        const next = await people.rotate(token).catch(() => undefined);
        const seconds = next && Math.floor((Date.parse(next.expiresAt) - now()) / 1000);
        if (next && seconds)
          all.append("set-cookie", cookie(people, people.cookieName, next.token, seconds));
      }
      return Response.json({ enabled: true, user }, { headers: all });
    } catch (error) {
      if (!(error instanceof HubError) || error.code !== "invalid_api_key") throw error;
      all.append("set-cookie", cookie(people, people.cookieName, "", 0));
      return Response.json({ enabled: true, user: null }, { headers: all });
    }
  });

  app.post("/auth/logout", async (c) => {
    const { people } = required();
    const given = sessionIn(c.req.header("authorization"));
    if (given === undefined) people.refuseForeign(c.req.raw);
    const token = given ?? readCookie(c.req.raw, people.cookieName);
    if (token !== undefined) await people.end(token, clientAddressOf(c.req.raw));
    return answer(c, 204, [cookie(people, people.cookieName, "", 0)]);
  });
}

/** Scripts cannot read it, and other sites' pages send it along with nothing but a link to here. */
function cookie(people: People, name: string, value: string, maxAgeSeconds: number): string {
  const secure = people.settings.publicUrl.startsWith("https:") ? "; Secure" : "";
  return `${name}=${value}; Path=/; HttpOnly; SameSite=Lax; Max-Age=${maxAgeSeconds}${secure}`;
}

const pendingName = (people: People): string => people.cookieName.replace("session", "login");
/** A login that takes longer begins anew. */
const loginSeconds = 600;
