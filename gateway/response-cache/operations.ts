/** The response cache's one address, as the OpenAPI document tells it. */
import { z } from "zod";
import { databaseCodes, json, type Operation } from "../../sdk/protocol/openapi/operation.ts";

export const responseCacheOperations: readonly Operation[] = [
  {
    method: "delete",
    path: "/api/cache",
    id: "purgeResponseCache",
    tag: "Operation",
    summary: "Forgets the kept answers of the key's project, or of one that an administrator names",
    access: "both",
    query: z.object({ project: z.string().optional() }),
    answers: {
      200: json(
        "They are gone.",
        z.looseObject({ object: z.literal("response_cache.purged"), purged: z.int() }),
      ),
    },
    codes: [...databaseCodes, "not_found"],
  },
];
