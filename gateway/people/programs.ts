/**
 * Logging in for a program on the person's machine, such as the command line: the browser comes back with a code, which
 * the program that asked for it, and no other, changes for a session.
 * @see RFC 8252 (a loopback address takes the code), RFC 7636 (only who began can use it)
 */
import { hash, randomUUID } from "node:crypto";
import { z } from "zod";
import { type OpenSession, openSession } from "../../sdk/protocol/admin.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import {
  confirmationOf,
  type LoginRedemption,
  loginRedemption,
} from "../../sdk/protocol/sign-in.ts";
import { createSeal } from "./sealed.ts";

/** What a program says of itself when it sends a person here. */
export const program = z.strictObject({
  /** Of 127.0.0.1, where it waits for the code; absent where the person copies it. */
  port: z.number().int().min(1024).max(65_535).optional(),
  /** Comes back with the code. */
  state: z.string().regex(/^[\w-]{16,128}$/),
  /** SHA-256 of its secret, in base64url. */
  challenge: z.string().regex(/^[\w-]{43}$/),
});
export type AskingProgram = z.infer<typeof program>;

/** @returns undefined for a person who logs in at the dashboard @throws HubError `invalid_value` */
export function readProgram(query: URLSearchParams): AskingProgram | undefined {
  const challenge = query.get("challenge");
  if (challenge === null) return undefined;
  const port = query.get("port");
  return parseOrThrow(program, {
    challenge,
    state: query.get("state") ?? undefined,
    ...(port !== null && { port: Number(port) }),
  });
}

/**
 * Codes are who logged in, sealed: any gateway of the installation takes them, for a short while. Each has a name of its
 * own, by which the registry opens one session.
 */
export function createLoginCodes({ secret, now }: { secret: string; now: () => number }) {
  const seal = createSeal(secret, "login code");
  return {
    make({ person, challenge }: { person: OpenSession; challenge: string }): string {
      return seal.seal({ person: { ...person, loginCode: randomUUID() }, challenge, atMs: now() });
    },
    /** @throws HubError `permission_denied` for a code that is none, is too old, or is another program's */
    redeem({ code, verifier }: LoginRedemption): OpenSession {
      const opened = sealed.safeParse(seal.open(code));
      const isFresh = opened.success && opened.data.atMs + codeMs > now();
      if (!isFresh || opened.data.challenge !== hash("sha256", verifier, "base64url")) {
        throw new HubError("permission_denied", "This login code is not good. Log in again.");
      }
      return opened.data.person;
    },
  };
}

/** @throws HubError `invalid_value` */
export async function readCode(request: Request): Promise<LoginRedemption> {
  const length = Number(request.headers.get("content-length") ?? bodyBytesMax + 1);
  if (!(length <= bodyBytesMax)) {
    throw new HubError(
      "request_too_large",
      `A login code's body is at most ${bodyBytesMax} bytes.`,
    );
  }
  return parseOrThrow(loginRedemption, await request.json().catch(() => undefined));
}

/**
 * Asks the person whether it was them: whoever sends somebody a link to a login gets no session of theirs unnoticed. The
 * words to compare are the same that the program shows.
 */
export function programPage({
  program: { port, state, challenge },
  code,
  who,
}: {
  program: AskingProgram;
  code: string;
  who: string;
}): { html: string; headers: Record<string, string> } {
  const query = new URLSearchParams({ code, state });
  const next =
    port === undefined
      ? `<p>Copy this code to where you began:</p><pre>${escapeHtml(code)}</pre>`
      : `<p><a class="primary" href="http://127.0.0.1:${port}/?${escapeHtml(query.toString())}">Yes, log it in</a></p>`;
  const html = `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>Log in a program – Switchyard</title>
  <link rel="stylesheet" href="/assets/style.css">
</head>
<body>
  <main class="sign-in">
    <div class="panel">
      <h1>Log in the command line?</h1>
      <p>A program on your machine asks to act as <strong>${escapeHtml(who)}</strong>. Go on only if you have just begun
        that yourself and it shows</p>
      <p class="big">${confirmationOf(challenge)}</p>
      ${next}
    </div>
  </main>
</body>
</html>
`;
  return { html, headers: pageHeaders };
}

function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? character);
}

/** Nothing is run, framed or told to where the link leads. */
const pageHeaders = {
  "content-type": "text/html; charset=utf-8",
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

/** Long enough for somebody who copies the code by hand. */
const codeMs = 5 * 60_000;
const bodyBytesMax = 8192;
const sealed = z.object({
  person: openSession.required({ loginCode: true }),
  challenge: z.string(),
  atMs: z.number(),
});
