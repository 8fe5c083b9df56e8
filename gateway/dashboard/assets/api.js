/** Asks this gateway's API with the reader's key, which lives in this tab alone. */

const keyName = "switchyard.key";

export const storedKey = {
  get: () => sessionStorage.getItem(keyName),
  /** @param {string} key */
  set: (key) => sessionStorage.setItem(keyName, key),
  forget: () => sessionStorage.removeItem(keyName),
};

/** The key is missing, wrong or expired. */
export class KeyRefused extends Error {}

/** What was asked for is not this reader's to see or do. */
export class NotAllowed extends Error {}

/**
 * @param {string} path
 * @param {Record<string, string>} query
 * @param {RequestInit} init
 */
export async function ask(path, query = {}, init = {}) {
  const key = storedKey.get();
  const response = await fetch(`${path}?${new URLSearchParams(query)}`, {
    ...init,
    headers: {
      ...(key !== null && { authorization: `Bearer ${key}` }),
      ...(init.body && { "content-type": "application/json" }),
    },
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => undefined);
  const message = body?.error?.message ?? `The gateway answered ${response.status}.`;
  switch (response.status) {
    case 401:
      throw new KeyRefused(message);
    case 403:
      throw new NotAllowed(message);
    default:
      throw new Error(message);
  }
}

/** @param {string} path @param {Record<string, string>} query */
export async function askJson(path, query = {}) {
  return (await ask(path, query)).json();
}

/** A change. @param {string} method @param {string} path @param {object} [body] */
export async function tell(method, path, body) {
  return (await ask(path, {}, { method, ...(body && { body: JSON.stringify(body) }) })).json();
}

/** Everything there is of a list, page by page. @param {string} path @param {Record<string, string>} query */
export async function askAll(path, query = {}) {
  const all = [];
  /** @type {Record<string, string>} */
  let page = { ...query, limit: "100" };
  for (;;) {
    const { data, has_more: more, last_id: last } = await askJson(path, page);
    all.push(...data);
    if (!more || !last) return all;
    page = { ...page, after: last };
  }
}

/**
 * `open` once the other side has taken it, then each server-sent event's name and data, until the other side or the signal ends them.
 * @param {string} path
 * @param {Record<string, string>} query
 * @param {AbortSignal} signal
 */
export async function* follow(path, query, signal) {
  const { body } = await ask(path, query, { signal });
  if (!body) return;
  yield { event: "open", data: undefined };
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop() ?? "";
    for (const frame of frames) {
      const [, event] = /^event: (.*)$/m.exec(frame) ?? [];
      const [, data] = /^data: (.*)$/m.exec(frame) ?? [];
      if (event !== undefined && data !== undefined) yield { event, data: JSON.parse(data) };
    }
  }
}

/** Whether people log in here, and who has. @returns {Promise<{ enabled: boolean, user: any }>} */
export async function session() {
  const response = await fetch("/auth/session");
  return response.ok ? response.json() : { enabled: false, user: null };
}

export async function logOut() {
  await fetch("/auth/logout", { method: "POST" });
}

/** Saves an answer as a file. @param {Response} response */
export async function save(response) {
  const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") ?? "")?.[1];
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name ?? "costs.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
