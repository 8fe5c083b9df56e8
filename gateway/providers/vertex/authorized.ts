/** Puts an access token on each request, the newest there is. */
import { type Transport, untilAborted } from "../transport.ts";
import type { AccessTokens } from "./service-account.ts";

export function authorized(transport: Transport, tokens: AccessTokens): Transport {
  return {
    async send(request) {
      // Others wait for the same token, so one that leaves does not stop its coming.
      const token = await untilAborted(tokens.get(), request.signal, () => {});
      const headers = { ...request.headers, authorization: `Bearer ${token}` };
      const response = await transport.send({ ...request, headers });
      if (response.status === 401) tokens.forget(token);
      return response;
    },
    async close() {
      await Promise.all([transport.close(), tokens.close()]);
    },
  };
}
