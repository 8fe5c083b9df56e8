/** What evals asks of the registry, always with the caller's own key. */
import { z } from "zod";
import { type AddMeasurements, type Whoami, whoami } from "../sdk/protocol/admin.ts";
import { type Adapter, adapter, type Model, model } from "../sdk/protocol/catalog.ts";
import { type ErrorCode, errorBody, errorTable, HubError } from "../sdk/protocol/errors.ts";
import { abortableRequest, type Fetcher, inProcessOrigin } from "../sdk/protocol/http.ts";

export type RegistryClient = {
  whoami(key: string): Promise<Whoami>;
  adapters(key: string): Promise<Adapter[]>;
  models(key: string): Promise<Model[]>;
  addMeasurements(key: string, body: AddMeasurements): Promise<void>;
};

/** Every call throws the registry's own `HubError`, or `upstream_unavailable` when it cannot be reached. */
export function registryClient(registry: Fetcher): RegistryClient {
  const call = (path: string, key: string, init: RequestInit = {}) =>
    send(
      registry,
      abortableRequest(`${inProcessOrigin}${path}`, {
        ...init,
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      }),
    );
  const list = async <T extends { id: string }>(path: string, key: string, item: z.ZodType<T>) => {
    const page = z.object({ data: z.array(item), has_more: z.boolean() });
    const all: T[] = [];
    let more = true;
    while (more) {
      const last = all.at(-1);
      const after = last === undefined ? "" : `&after=${encodeURIComponent(last.id)}`;
      const answer = page.parse(await call(`${path}?limit=100${after}`, key));
      all.push(...answer.data);
      more = answer.has_more && answer.data.length > 0;
    }
    return all;
  };
  return {
    whoami: async (key) => whoami.parse(await call("/api/whoami", key)),
    adapters: (key) => list("/api/adapters", key, adapter),
    models: (key) => list("/api/models", key, model),
    addMeasurements: async (key, body) => {
      await call("/api/measurements", key, { method: "POST", body: JSON.stringify(body) });
    },
  };
}

async function send(registry: Fetcher, request: Request): Promise<unknown> {
  let response: Response;
  try {
    response = await registry.fetch(request);
  } catch (cause) {
    throw new HubError("upstream_unavailable", "The registry cannot be reached at this moment.", {
      cause,
    });
  }
  const text = await response.text();
  if (response.ok) return JSON.parse(text);
  const { code, message, param } = readError(text);
  if (code !== undefined) {
    const wait = response.headers.get("retry-after-ms");
    throw new HubError(code, message, {
      param,
      retryAfterMs: wait === null ? undefined : Number(wait),
    });
  }
  throw new HubError(
    "upstream_error",
    `The registry answered ${response.status} without a reason.`,
  );
}

type RegistryError = { code: ErrorCode | undefined; message: string; param: string | undefined };

function readError(text: string): RegistryError {
  try {
    const { code, message, param } = errorBody.parse(JSON.parse(text)).error;
    const known = code !== null && code in errorTable;
    return { code: known ? (code as ErrorCode) : undefined, message, param: param ?? undefined };
  } catch {
    return { code: undefined, message: "", param: undefined };
  }
}
