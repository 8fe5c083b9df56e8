/** Credentials: by the prefixes that their makers gave them to be found by, and by their checksums. */
import { crc32 } from "node:zlib";
import { charsOf, type Detector, findAll, tailOf, withoutOverlaps } from "./detector.ts";

export const secretsDetector: Detector = {
  find: (text, from) =>
    withoutOverlaps(
      secrets.flatMap(({ kind, pattern, isReal }) =>
        findAll(pattern, text, { from, kind, ...(isReal && { isReal }) }),
      ),
    ),
  openFrom(text, from) {
    const start = Math.max(from, text.length - 64);
    const dashes = /-{1,5}(?:(?<=-----)[A-Z ]{0,44}-{0,5})?$/.exec(text.slice(start));
    const key = text.lastIndexOf("-----BEGIN ");
    const isOpen = key >= from && unclosedKey.test(text.slice(key));
    return Math.min(
      tailOf(text, from, charsOf("._-+/="), tokenCharsMax),
      dashes ? start + dashes.index : text.length,
      isOpen ? key : text.length,
    );
  },
};

/** The block of a key up to where its last line may be beginning. */
const unclosedKey =
  /^-----BEGIN [A-Z ]{0,60}(?:-{0,4}|-----(?:[^-]|-(?!----)){0,16384}(?:-{1,4}|-----[A-Z ]{0,60}-{0,4})?)$/;

/** A JSON web token may be long before it shows that it is one. */
const tokenCharsMax = 4096;

/** Every pattern is a fixed beginning and one run of characters, or a few, so none is tried twice from one place. */
const secrets: readonly { kind: string; pattern: RegExp; isReal?: (found: string) => boolean }[] = [
  {
    kind: "PRIVATE_KEY",
    pattern:
      /-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----)){0,16384}(?:-----END [A-Z ]{0,40}-----)?/g,
  },
  { kind: "SWITCHYARD_KEY", pattern: /\bsk-sy-(?:admin-)?[A-Za-z0-9]{38}\b/g, isReal: endsInCrc32 },
  {
    kind: "GITHUB_TOKEN",
    pattern: /\bgh[pousr]_[A-Za-z0-9]{36}\b/g,
    isReal: (key) => endsInCrc32(key, key.slice(4, -6)),
  },
  { kind: "GITHUB_TOKEN", pattern: /\bgithub_pat_[A-Za-z0-9_]{82}\b/g },
  {
    kind: "NPM_TOKEN",
    pattern: /\bnpm_[A-Za-z0-9]{36}\b/g,
    isReal: (key) => endsInCrc32(key, key.slice(4, -6)),
  },
  { kind: "ANTHROPIC_KEY", pattern: /\bsk-ant-[A-Za-z0-9_-]{24,200}/g },
  { kind: "OPENAI_KEY", pattern: /\bsk-(?:proj-|svcacct-|admin-)[A-Za-z0-9_-]{24,200}/g },
  { kind: "OPENAI_KEY", pattern: /\bsk-[A-Za-z0-9]{48}\b/g },
  { kind: "AWS_KEY", pattern: /\b(?:AKIA|ASIA)[A-Z2-7]{16}\b/g },
  { kind: "GOOGLE_KEY", pattern: /\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])/g },
  { kind: "SLACK_TOKEN", pattern: /\bxox[abeoprs]-[A-Za-z0-9-]{10,200}/g },
  { kind: "STRIPE_KEY", pattern: /\b[rs]k_live_[A-Za-z0-9]{16,200}\b/g },
  { kind: "GITLAB_TOKEN", pattern: /\bglpat-[A-Za-z0-9_-]{20,200}/g },
  { kind: "HUGGING_FACE_TOKEN", pattern: /\bhf_[A-Za-z]{34}\b/g },
  { kind: "SENDGRID_KEY", pattern: /\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])/g },
  {
    kind: "JWT",
    pattern: /\beyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{8,16384}\.[A-Za-z0-9_-]{16,1024}/g,
  },
];

/** Six digits of base 62, as GitHub, npm and we ourselves check keys. @see https://github.blog/engineering/behind-githubs-new-authentication-token-formats */
function endsInCrc32(key: string, checked = key.slice(0, -6)): boolean {
  let rest = crc32(checked);
  let digits = "";
  for (let i = 0; i < 6; i++) {
    digits = alphabet[rest % 62] + digits;
    rest = Math.floor(rest / 62);
  }
  return key.endsWith(digits);
}

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
