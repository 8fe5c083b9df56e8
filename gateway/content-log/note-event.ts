/** Notes in the registry's audit log what somebody does here, before it is done. */
import type { ContentEvent } from "../../sdk/protocol/content-log.ts";
import { HubError } from "../../sdk/protocol/errors.ts";
import { type Fetcher, inProcessOrigin } from "../../sdk/protocol/http.ts";
import { clientAddressHeader, vouchingHeader } from "../../sdk/protocol/vouched.ts";
import { clientAddressOf } from "../http/client-address.ts";

/** What cannot be noted is not done. @throws HubError `database_unavailable` */
export async function noteEvent(
  request: Request,
  event: ContentEvent,
  { registry, operatorKey }: { registry: Fetcher; operatorKey: string },
): Promise<void> {
  const address = clientAddressOf(request);
  const failed = (cause: unknown) =>
    new HubError(
      "database_unavailable",
      "The audit log cannot be written at the moment, and without it no content is read or deleted.",
      { cause, retryAfterMs: 1000 },
    );
  const response = await registry
    .fetch(
      new Request(`${inProcessOrigin}/api/events`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${operatorKey}`,
          "content-type": "application/json",
          ...(address !== undefined && {
            [vouchingHeader]: operatorKey,
            [clientAddressHeader]: address,
          }),
        },
        body: JSON.stringify(event),
      }),
    )
    .catch((cause) => {
      throw failed(cause);
    });
  if (!response.ok) throw failed(new Error(`the registry answered ${response.status}`));
}
