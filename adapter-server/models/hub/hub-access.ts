/** Which hub is asked, as whom, and whether it may be: the environment that Hugging Face's own tools read. */
import { LibraryError } from "../library/library-error.ts";

export type HubAccess = {
  /** Without a slash at the end. */
  endpoint: string;
  token: string | undefined;
  offline: boolean;
};

/**
 * Reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`.
 * @throws LibraryError `invalid_reference` that names the variable
 * @see https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
 */
export function readHubAccess(env: Record<string, string | undefined>): HubAccess {
  const endpoint = readEndpoint(env.HF_ENDPOINT || "https://huggingface.co");
  const token = env.HF_TOKEN?.trim() || undefined;
  if (token !== undefined && !/^[\x21-\x7e]{1,512}$/.test(token)) {
    throw new LibraryError("invalid_reference", "HF_TOKEN is not a token.", {
      hint: "It is one word, such as hf_… from the hub's settings.",
    });
  }
  const { protocol, hostname } = new URL(endpoint);
  if (token !== undefined && protocol === "http:" && !loopback.has(hostname)) {
    throw new LibraryError(
      "invalid_reference",
      `HF_TOKEN would travel to ${hostname} unencrypted, so it is not sent.`,
      { hint: "Set HF_ENDPOINT to an address with https, or unset HF_TOKEN." },
    );
  }
  const offline = /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? "");
  return { endpoint, token, offline };
}

function readEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain =
    url !== undefined &&
    /^https?:$/.test(url.protocol) &&
    url.username === "" &&
    url.password === "" &&
    url.search === "" &&
    url.hash === "";
  if (isPlain) return url.href.replace(/\/+$/, "");
  throw new LibraryError("invalid_reference", "HF_ENDPOINT is not the address of a hub.", {
    hint: "Write it like https://huggingface.co, with no user, query or fragment.",
  });
}

const loopback = new Set(["127.0.0.1", "localhost", "[::1]"]);
