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

/** @param {string} path @param {Record<string, string>} query */
export async function ask(path, query = {}) {
  const key = storedKey.get();
  const response = await fetch(`${path}?${new URLSearchParams(query)}`, {
    headers: key === null ? {} : { authorization: `Bearer ${key}` },
  });
  if (response.ok) return response;
  const body = await response.json().catch(() => undefined);
  const message = body?.error?.message ?? `The gateway answered ${response.status}.`;
  throw response.status === 401 ? new KeyRefused(message) : new Error(message);
}

/** @param {string} path @param {Record<string, string>} query */
export async function askJson(path, query = {}) {
  return (await ask(path, query)).json();
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
