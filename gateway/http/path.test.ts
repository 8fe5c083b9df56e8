import fc from "fast-check";
import { expect, test } from "vitest";
import { pathOf } from "./path.ts";

test("the path is that of a URL, whatever the address holds", () => {
  const relative = fc.string({
    unit: fc.constantFrom("/", "?", "#", "a", ":", "@", "%2F", "ä", "."),
  });
  fc.assert(
    fc.property(
      fc.constantFrom("http://a", "http://[::1]:80", "https://a.b:1"),
      relative,
      (origin, text) => {
        const { href, pathname } = new URL(`${origin}/${text}`);
        expect(pathOf(href)).toBe(pathname);
      },
    ),
  );
});
