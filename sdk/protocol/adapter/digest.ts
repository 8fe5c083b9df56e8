/** Identity of an adapter version: one digest over both of its files, the same in every service. */
import { type Sha256, sha256 } from "../ids.ts";

/**
 * @param files  SHA-256 of the bytes of `adapter_config.json` and of `adapter_model.safetensors`
 * @param sha256Hex SHA-256 of a text's UTF-8 as 64 lower-case hex digits; this folder knows no crypto library
 */
export function adapterDigest(
  files: { configSha256: string; weightsSha256: string },
  sha256Hex: (text: string) => string,
): Sha256 {
  const { configSha256, weightsSha256 } = files;
  return sha256.parse(sha256Hex(`switchyard-adapter-v1\n${configSha256}\n${weightsSha256}\n`));
}
