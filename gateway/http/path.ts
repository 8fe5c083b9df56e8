/** The path of a request's address, without an object for the whole of it. */

/** @param url an absolute one as `Request` has it: normal, with a path */
export function pathOf(url: string): string {
  const from = url.indexOf("/", url.indexOf("//") + 2);
  if (from === -1) return "/";
  for (let at = from; at < url.length; at++) {
    const char = url.charCodeAt(at);
    if (char === question || char === hash) return url.slice(from, at);
  }
  return url.slice(from);
}

const question = 63;
const hash = 35;
