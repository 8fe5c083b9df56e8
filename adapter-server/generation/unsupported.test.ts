/** Fields that nobody knows are refused by their names, whatever these are. */
import { expect, test } from "vitest";
import { refuseUnsupported } from "./unsupported.ts";

test.each(["constructor", "hasOwnProperty", "toString", "__proto__", "tempreture"])(
  "'%s' is an unknown parameter",
  (field) => {
    const request = JSON.parse(`{"${field}": 1}`) as Record<string, unknown>;
    expect(() => refuseUnsupported(request, new Set())).toThrow(
      expect.objectContaining({ code: "invalid_value", param: field }),
    );
  },
);

test("a value that asks for nothing is taken, and any other is refused", () => {
  refuseUnsupported({ use_beam_search: false, echo: null, user: "u" }, new Set());
  expect(() => refuseUnsupported({ use_beam_search: true }, new Set())).toThrow(
    expect.objectContaining({ code: "unsupported_parameter", param: "use_beam_search" }),
  );
});
