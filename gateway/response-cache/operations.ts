/** The response cache's one address, as the OpenAPI document tells it. */
import { z } from "zod";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";

export const responseCacheOperations: readonly Operation[] = [
  {
    method: "delete",
    path: "/api/cache",
    id: "purgeResponseCache",
    tag: "Operation",
    summary: "Forgets the kept answers of the key's project",
    access: "project",
    answers: {
      200: json(
        "They are gone.",
        z.looseObject({ object: z.literal("response_cache.purged"), purged: z.int() }),
      ),
    },
    codes: databaseCodes,
  },
];
