/** Items of a conversation that is to be summed up. */
import { expect, test } from "vitest";
import { defaultLimits } from "../../config.ts";
import { askForSummary, expandCompactions } from "./compaction.ts";
import { readCompactCall } from "./request.ts";

test("what is no item passes as it is, for whoever reads the request to refuse", () => {
  const wrong = [null, 1, "text", [], {}];
  expect(askForSummary(wrong).slice(0, -1)).toEqual(wrong);
  expect(expandCompactions(wrong)).toEqual(wrong);
});

test("a request with such items is read, and not our mistake", async () => {
  const request = new Request("http://localhost/v1/responses/compact", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "m", input: [null, 1, "text"] }),
  });
  const about = { projectId: "p", store: undefined, conversations: undefined };
  const call = await readCompactCall(request, { limits: defaultLimits, ...about });
  expect(call.body.input).toEqual([null, 1, "text", expect.objectContaining({ role: "user" })]);
});
