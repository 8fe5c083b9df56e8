/** One hash over the files that decide a model's numbers and its tokens. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";

/** @param files paths by the name under which each counts, wherever it lies */
export async function modelDigest(files: ReadonlyMap<string, string>): Promise<string> {
  const sorted = [...files].sort(([one], [other]) => (one < other ? -1 : 1));
  const lines = await Promise.all(
    sorted.map(async ([name, path]) => `${await fileSha256(path)} ${name}\n`),
  );
  return createHash("sha256")
    .update(`switchyard-base-v1\n${lines.join("")}`)
    .digest("hex");
}

async function fileSha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}
