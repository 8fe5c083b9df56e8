/** Plain calls to a running server, for tests that look at the wire itself. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

export type ApiAnswer = { status: number; headers: Headers; body: unknown };

/** Sends JSON and reads JSON; nothing is thrown for an error status. */
export async function call(
  url: string,
  key: string | undefined,
  method: string,
  path: string,
  body?: unknown,
): Promise<ApiAnswer> {
  const response = await fetch(`${url}${path}`, {
    method,
    headers: {
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: text === "" ? undefined : JSON.parse(text),
  };
}

/** Pushes a PEFT folder as the CLI does. */
export async function pushAdapter(
  url: string,
  key: string,
  manifest: Record<string, unknown>,
  folder: string,
): Promise<ApiAnswer> {
  const form = new FormData();
  form.set("manifest", JSON.stringify(manifest));
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    form.set(name, new Blob([await readFile(join(folder, name))]), name);
  }
  const response = await fetch(`${url}/api/adapters`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: form,
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

export type Tenant = { projectId: string; key: string };

/** A project of its own with one key. */
export async function createTenant(
  url: string,
  adminKey: string,
  name: string,
  extra: Record<string, unknown> = {},
): Promise<Tenant> {
  const project = await call(url, adminKey, "POST", "/api/projects", { name, ...extra });
  if (project.status !== 201) throw new Error(`no project: ${JSON.stringify(project.body)}`);
  const projectId = (project.body as { id: string }).id;
  const key = await call(url, adminKey, "POST", "/api/keys", { name: `${name} key`, projectId });
  if (key.status !== 201) throw new Error(`no key: ${JSON.stringify(key.body)}`);
  return { projectId, key: (key.body as { key: string }).key };
}

/** Polls until `look` gives something, as a person would press reload. */
export async function eventually<T>(
  what: string,
  look: () => Promise<T | undefined>,
  timeoutMs = 20_000,
): Promise<T> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > until) throw new Error(`gave up waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
