/** Asks the registry of this process, as anyone with the key would. */
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";

/** A function that sends a request and returns the answer's JSON. @throws HubError when it is refused */
export function registryCaller(registry: Fetcher, key: string) {
  return async (
    method: string,
    path: string,
    body?: FormData | Record<string, unknown>,
  ): Promise<unknown> => {
    const isForm = body instanceof FormData;
    const response = await registry.fetch(
      new Request(`${inProcessOrigin}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${key}`,
          ...(body && !isForm ? { "content-type": "application/json" } : {}),
        },
        ...(body ? { body: isForm ? body : JSON.stringify(body) } : {}),
      }),
    );
    if (!response.ok) {
      throw new HubError(
        "internal_error",
        `${method} ${path} answered ${response.status}: ${await response.text()}`,
      );
    }
    return response.json();
  };
}
