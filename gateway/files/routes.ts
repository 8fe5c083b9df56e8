/** OpenAI's `/v1/files` and `/v1/uploads`. */
import type { Context, Env, Hono } from "hono";
import { z } from "zod";
import { HubError, parseOrThrow } from "../../sdk/protocol/errors.ts";
import { readJsonBody } from "../http/body.ts";
import type { Door } from "../http/door.ts";
import { type FormPart, readField, readForm } from "../http/multipart.ts";
import { TenantPlaces } from "../tenant-places.ts";
import { type FileDraft, type FileObject, type FileStore, filePurposes } from "./store.ts";
import type { UploadStore } from "./uploads.ts";

export type FileRoutesParts = {
  files: FileStore;
  uploads: UploadStore;
  limits: {
    fileBytesMax: number;
    fileTransfersMax: number;
    fileTransfersPerProjectMax: number;
    requestBytesMax: number;
    requestValuesMax: number;
  };
};

export function mountFiles<E extends Env>(
  app: Hono<E>,
  door: Door<E>,
  { files, uploads, limits }: FileRoutesParts,
): void {
  const { json } = door;
  const projectOf = (c: Context<E>) => door.principalOf(c).project.id;
  const idOf = (c: Context<E>) => ({ projectId: projectOf(c), id: c.req.param("id") ?? "" });
  const readBody = async <S extends z.ZodType>(c: Context<E>, schema: S) =>
    parseOrThrow(schema, (await readJsonBody(c.req.raw, limits)).value);
  const transfers = new TenantPlaces({
    max: limits.fileTransfersMax,
    perProjectMax: limits.fileTransfersPerProjectMax,
    what: "transfers of files",
  });
  /** A body that cannot fit is refused before it is sent. */
  const receive = <T>(c: Context<E>, projectId: string, work: () => Promise<T>) => {
    const length = Number(c.req.header("content-length") ?? 0);
    if (length > limits.fileBytesMax + formBytesMax) {
      throw new HubError(
        "request_too_large",
        `A file has at most ${limits.fileBytesMax} bytes; this request has ${length}.`,
      );
    }
    return door.admit(() => transfers.admit(projectId, work));
  };

  app.post("/v1/files", (c) => {
    const projectId = projectOf(c);
    return receive(c, projectId, async () =>
      json(c, await receiveFile(c.req.raw, projectId, files)),
    );
  });
  app.get("/v1/files", async (c) => {
    const projectId = projectOf(c);
    const page = parseOrThrow(filePage, c.req.query());
    // One more than asked tells whether there are more.
    const found = await files.list(projectId, { ...page, limit: page.limit + 1 });
    const data = found.slice(0, page.limit);
    return json(c, {
      object: "list",
      data,
      first_id: data[0]?.id ?? null,
      last_id: data.at(-1)?.id ?? null,
      has_more: found.length > page.limit,
    });
  });
  app.get("/v1/files/:id", async (c) => {
    const { projectId, id } = idOf(c);
    return json(c, await files.get(projectId, id));
  });
  app.delete("/v1/files/:id", async (c) => {
    const { projectId, id } = idOf(c);
    await files.delete(projectId, id);
    return json(c, { id, object: "file", deleted: true });
  });
  app.get("/v1/files/:id/content", async (c) => {
    const { projectId, id } = idOf(c);
    const file = await files.get(projectId, id);
    return new Response(toStream(files.read(id), transfers.take(projectId)), {
      headers: { ...door.headers(c), ...contentHeaders(file) },
    });
  });
  door.refuseOthers("/v1/files", "GET or POST");
  door.refuseOthers("/v1/files/:id", "GET or DELETE");
  door.refuseOthers("/v1/files/:id/content", "GET");

  app.post("/v1/uploads", async (c) => {
    const projectId = projectOf(c);
    const { mime_type, expires_after, ...upload } = await readBody(c, newUpload);
    const facts = { ...upload, mimeType: mime_type, expiresAfter: expires_after?.seconds };
    checkFormat(facts);
    return json(c, await uploads.create(projectId, facts));
  });
  app.post("/v1/uploads/:id/parts", (c) => {
    const of = idOf(c);
    return receive(c, of.projectId, async () => {
      for await (const part of readForm(c.req.raw, { partsMax: formPartsMax })) {
        if (part.name === "data") return json(c, await uploads.addPart(of, part.chunks));
      }
      throw missing("data");
    });
  });
  app.post("/v1/uploads/:id/complete", async (c) => {
    const of = idOf(c);
    const { part_ids, md5 } = await readBody(c, completion);
    const asked = { partIds: part_ids, md5: md5 ?? undefined };
    return json(c, await door.admit(() => uploads.complete(of, asked)));
  });
  app.post("/v1/uploads/:id/cancel", async (c) => json(c, await uploads.cancel(idOf(c))));
  door.refuseOthers("/v1/uploads", "POST");
  for (const action of ["parts", "complete", "cancel"]) {
    door.refuseOthers(`/v1/uploads/:id/${action}`, "POST");
  }
}

/** Fields may come before the file or after it; what was written of a form that is wrong is removed. */
async function receiveFile(
  request: Request,
  projectId: string,
  files: FileStore,
): Promise<FileObject> {
  const fields: Record<string, string> = {};
  let draft: FileDraft | undefined;
  let filename: string | undefined;
  try {
    for await (const part of readForm(request, { partsMax: formPartsMax })) {
      if (part.name === "file") {
        if (draft) throw invalid("file", "one file was expected, and another came.");
        filename = filenameOf(part);
        // What can be known to be wrong is told before the file is sent.
        if (fields.purpose !== undefined) {
          checkFormat({ purpose: parseOrThrow(fileFields, fields).purpose, filename });
        }
        draft = await files.begin(projectId);
        await draft.write(part.chunks);
      } else {
        fields[part.name] = await readField(part, fieldBytesMax);
      }
    }
    const { purpose, ...expiry } = parseOrThrow(fileFields, fields);
    if (!draft || filename === undefined) throw missing("file");
    checkFormat({ purpose, filename });
    return await draft.publish({
      purpose,
      filename,
      expiresAfter: expiry["expires_after[seconds]"],
    });
  } catch (error) {
    // A database that is away is told of by the error itself, and sweeps what is left.
    await draft?.discard().catch(() => {});
    throw error;
  }
}

/** The last piece of a path that a client may have sent; it names nothing here, and is never opened. */
function filenameOf({ filename }: FormPart): string {
  if (filename === undefined) {
    throw invalid("file", "expected a file, with a filename; got a plain field.");
  }
  const name = filename.slice(Math.max(filename.lastIndexOf("/"), filename.lastIndexOf("\\")) + 1);
  return parseOrThrow(fileFacts, { filename: name }).filename;
}

/** @throws HubError as OpenAI words it */
function checkFormat({ purpose, filename }: { purpose: string; filename: string }): void {
  const api = linesOnly[purpose];
  if (api === undefined || filename.toLowerCase().endsWith(".jsonl")) return;
  throw invalid("file", `Invalid file format for ${api}. Must be .jsonl`);
}

function contentHeaders({ filename, bytes }: FileObject): Record<string, string> {
  const ascii = filename.replace(/[^\x20-\x7e]|["\\]/g, "_");
  const encoded = encodeURIComponent(filename.replace(/\p{Surrogate}/gu, "_"));
  return {
    "content-type": "application/octet-stream",
    "content-length": String(bytes),
    "content-disposition": `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`,
    // What a tenant has sent in is nothing for a browser to run under our address.
    "x-content-type-options": "nosniff",
  };
}

/** Nothing is read of the database before the client has taken what was read. */
function toStream(
  chunks: AsyncGenerator<Uint8Array>,
  onEnd: () => void,
): ReadableStream<Uint8Array> {
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          const { value, done } = await chunks.next();
          if (!done) return controller.enqueue(value);
          onEnd();
          controller.close();
        } catch (error) {
          onEnd();
          throw error;
        }
      },
      async cancel() {
        onEnd();
        await chunks.return(undefined);
      },
    },
    { highWaterMark: 0 },
  );
}

function missing(param: string): HubError {
  return new HubError("missing_required_parameter", `Missing required parameter: '${param}'.`, {
    param,
  });
}

function invalid(param: string, problem: string): HubError {
  return new HubError("invalid_value", `Invalid '${param}': ${problem}`, { param });
}

/** Purposes whose files are read line by line, and what reads them. */
const linesOnly: Record<string, string> = {
  batch: "Batch API",
  "fine-tune": "Fine-Tuning API",
  evals: "Evals API",
};

const formPartsMax = 16;
const fieldBytesMax = 1024;
/** For the boundaries, headers and fields around a file. */
const formBytesMax = 1 << 20;

const purpose = z.enum(filePurposes);
const name = z
  .string()
  .max(255)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  .regex(/^[^\x00-\x1f\x7f]*$/, "expected a text without control characters");
const filename = name.min(1);
const fileFacts = z.object({ filename });
/** From an hour to thirty days, as at OpenAI. */
const expirySeconds = z.coerce.number().int().min(3600).max(2_592_000);
export const fileFields = z.object({
  purpose,
  "expires_after[anchor]": z.literal("created_at").optional(),
  "expires_after[seconds]": expirySeconds.optional(),
});
export const newUpload = z.object({
  filename,
  purpose,
  bytes: z.int().positive(),
  mime_type: name,
  expires_after: z
    .object({ anchor: z.literal("created_at"), seconds: expirySeconds })
    .nullish()
    .transform((it) => it ?? undefined),
});
export const completion = z.object({
  part_ids: z.array(z.string()).min(1).max(10_000),
  md5: z
    .string()
    .regex(/^[0-9a-f]{32}$/i, "expected 32 hex digits of an MD5")
    .nullish(),
});
export const filePage = z.object({
  // The official clients' own tests ask for 0.
  limit: z.coerce.number().int().min(0).max(10_000).default(10_000),
  order: z.enum(["asc", "desc"]).default("desc"),
  after: z.string().optional(),
  purpose: name.optional(),
});
