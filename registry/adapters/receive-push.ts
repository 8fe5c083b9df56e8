/** `POST /api/adapters`: a form with a manifest and two files, from a caller who may push it. */
import * as admin from "../../sdk/protocol/admin.ts";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import type { RegistryLimits } from "../config.ts";
import { readBytes } from "../http/body.ts";
import { splitMultipart } from "../http/multipart.ts";
import { actorOf, type Caller, readProject, requireStill } from "../identity.ts";
import { type Pushed, type PushParts, pushAdapter } from "./push.ts";

type ReceiveParts = Omit<PushParts, "adapterRankMax"> & { limits: RegistryLimits };

/** Reads the form, decides for whom it is pushed, and hands over the files. */
export async function receivePush(
  request: Request,
  caller: Caller,
  parts: ReceiveParts,
): Promise<Pushed> {
  const { limits } = parts;
  const partLimits = {
    manifest: { bytesMax: limits.jsonBytesMax },
    "adapter_config.json": { bytesMax: limits.adapterConfigBytesMax },
    "adapter_model.safetensors": { bytesMax: limits.adapterWeightsBytesMax },
  };
  const bytesMax = Object.values(partLimits).reduce((sum, part) => sum + part.bytesMax, 64 * 1024);
  const body = await readBytes(request, bytesMax);
  const files = splitMultipart(body, request.headers.get("content-type"), partLimits);
  const manifest = parseOrThrow(admin.pushAdapter, parseManifest(files.manifest), "manifest.");
  if (manifest.shared && caller.type === "project") {
    throw new HubError(
      "permission_denied",
      "Only an admin key may share an adapter with all projects.",
      {
        param: "manifest.shared",
      },
    );
  }
  const projectId = readProject(caller, manifest.projectId);
  if (projectId === undefined) {
    throw new HubError(
      "missing_required_parameter",
      "An admin key belongs to no project; say with 'projectId' whose adapter this is.",
      { param: "manifest.projectId" },
    );
  }
  return pushAdapter(
    {
      manifest,
      projectId,
      actor: actorOf(caller),
      requireStill: (db) => requireStill(db, caller, request),
      config: files["adapter_config.json"],
      weights: files["adapter_model.safetensors"],
    },
    { ...parts, adapterRankMax: limits.adapterRankMax },
  );
}

function parseManifest(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch (cause) {
    throw new HubError("invalid_json", "The part 'manifest' is not valid JSON.", { cause });
  }
}

/** More than `max` at a time are told to come back: what they bring would have to be held in memory. */
export function limitConcurrency<Argument, Result>(
  max: number,
  work: (argument: Argument) => Promise<Result>,
): (argument: Argument) => Promise<Result> {
  let running = 0;
  return async (argument) => {
    if (running >= max) {
      throw new HubError("server_is_overloaded", `${max} adapters are being pushed already.`, {
        retryAfterMs: 1000,
      });
    }
    running++;
    try {
      return await work(argument);
    } finally {
      running--;
    }
  };
}
