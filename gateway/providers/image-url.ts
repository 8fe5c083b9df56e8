/** A picture as the formats that take one by its address have it. */
import { HubError } from "../../sdk/protocol/errors.ts";
import type { ImagePart } from "../canonical/request.ts";
import { toDataUrl } from "../dialects/data-url.ts";

/** @throws HubError `unsupported_parameter` for one that another provider keeps */
export function imageUrl({ source }: ImagePart): string {
  switch (source.type) {
    case "url":
      return source.url;
    case "base64":
      return toDataUrl(source);
    case "file_id":
      throw new HubError(
        "unsupported_parameter",
        "An image by a file's id is not supported with this model; send its data.",
        { param: "messages" },
      );
    default:
      return source satisfies never;
  }
}
