/** A door to a service that may not be there yet: it answers 503 until the service is. */
import { HubError, toErrorResponse } from "../../sdk/protocol/errors.ts";
import type { Fetcher } from "../../sdk/protocol/http.ts";

export type LateService = Fetcher & { open(service: Fetcher): void };

export function lateService(): LateService {
  let service: Fetcher | undefined;
  return {
    open: (opened) => {
      service = opened;
    },
    fetch: async (request) => (service ? service.fetch(request) : toErrorResponse(unavailable())),
  };
}

function unavailable(): HubError {
  return new HubError(
    "database_unavailable",
    "The database does not answer, so nothing can be administered. Inference goes on with the last policy.",
    { retryAfterMs: 2000 },
  );
}
