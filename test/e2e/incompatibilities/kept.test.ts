/** Incompatibilities 40, 46 and 50: batches with good and bad lines, cancelling without a body, pages of usage. */
import OpenAI from "openai";
import { expect, test } from "vitest";
import { call, createTenant, eventually } from "../../support/api.ts";
import { type Case, messages, testCases } from "./cases.ts";
import { speak } from "./wire.ts";

const speaking: Case = {
  name: "40: an upstream that speaks",
  upstream: speak("fine"),
  expected: {},
};
const model = "40/openai";

testCases([speaking], {
  more(stage) {
    const open = (apiKey = stage().server.apiKey) =>
      new OpenAI({ baseURL: stage().url, apiKey, maxRetries: 0 });
    const upload = (lines: object[]) =>
      open().files.create({
        purpose: "batch",
        file: new File([lines.map((line) => JSON.stringify(line)).join("\n")], "lines.jsonl"),
      });
    const line = (custom_id: string, body: object) => ({
      custom_id,
      method: "POST",
      url: "/v1/chat/completions",
      body: { model, messages, ...body },
    });
    const batch = async (input_file_id: string) =>
      open().batches.create({
        input_file_id,
        endpoint: "/v1/chat/completions",
        completion_window: "24h",
      });

    test("40: a batch's good lines are answered, its bad ones told, and neither file is another project's", async () => {
      const { id } = await upload([line("good", {}), line("bad", { temperature: 9 })]);
      const { id: batchId } = await batch(id);
      const done = await eventually("the batch to end", async () => {
        const seen = await open().batches.retrieve(batchId);
        return seen.status === "completed" ? seen : undefined;
      });
      expect(done.request_counts).toEqual({ total: 2, completed: 1, failed: 1 });
      const read = async (file: string | null | undefined) =>
        JSON.parse(await (await open().files.content(file ?? "")).text());
      expect(await read(done.output_file_id)).toMatchObject({
        custom_id: "good",
        response: { status_code: 200 },
        error: null,
      });
      expect(await read(done.error_file_id)).toMatchObject({
        custom_id: "bad",
        response: { status_code: 400 },
        error: null,
      });
      const { server } = stage();
      const { key } = await createTenant(server.url, server.adminKey, "neighbour");
      for (const file of [id, done.output_file_id ?? "", done.error_file_id ?? ""]) {
        await expect(open(key).files.retrieve(file)).rejects.toMatchObject({ status: 404 });
      }
    });

    test("46: cancelling needs no body, and no type of one", async () => {
      const { url, server } = stage();
      const { id } = await batch((await upload([line("good", {})])).id);
      const response = await fetch(`${url}/batches/${id}/cancel`, {
        method: "POST",
        headers: { authorization: `Bearer ${server.apiKey}` },
      });
      // One that was quicker is told that it cannot be cancelled any more.
      expect([200, 400, 409]).toContain(response.status);
      expect(await response.json()).not.toMatchObject({ error: { code: "invalid_json" } });
    });

    test("50: pages of usage have every bucket, an end, and either way to name groups", async () => {
      const { server } = stage();
      const start = Math.floor(Date.now() / 1000) - 3 * 86_400;
      const page = async (groups: string) =>
        call(
          server.url,
          server.adminKey,
          "GET",
          `/v1/organization/usage/completions?start_time=${start}&limit=7&${groups}`,
        );
      for (const groups of ["group_by=model", "group_by[]=model&group_by[]=project_id"]) {
        const { status, body } = await page(groups);
        expect(status).toBe(200);
        const { object, data, has_more, next_page } = body as Record<string, unknown>;
        expect({ object, has_more, next_page }).toEqual({
          object: "page",
          has_more: false,
          next_page: null,
        });
        expect((data as unknown[]).length).toBeGreaterThanOrEqual(3);
        expect((data as { results: unknown[] }[])[0]?.results).toEqual([]);
      }
    });
  },
});
