/** The process that runs a background response is killed: what had ended is there, and what ran is honestly told. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { describe, expect, test } from "vitest";
import { startOpenAiEmulator } from "../emulators/openai.ts";
import { eventually } from "../support/api.ts";
import { startServer } from "../support/server.ts";
import { writeSettings } from "../support/settings.ts";
import { storeKinds } from "../support/stores.ts";

const kinds = await storeKinds();

describe.each(kinds)("with $name", ({ skipped, open }) => {
  test.skipIf(skipped)(
    "SIGKILL leaves no response running for ever, and no conversation half said",
    async () => {
      const stores = await open();
      const dataDir = await mkdtemp(join(tmpdir(), "switchyard-background-"));
      const emulator = await startOpenAiEmulator({ answer: () => "all is well" });
      const prices = { input: "1", output: "10" };
      const settings = await writeSettings({
        upstreams: [{ name: "emulated", type: "openai", baseUrl: emulator.baseUrl }],
        models: [
          { id: "quick", upstream: "emulated", prices },
          { id: "endless", upstream: "emulated", upstreamModel: "endless!stall:3", prices },
        ],
        gateway: { backgroundLeaseMs: 3_000 },
      });
      const env = { SWITCHYARD_CONFIG: settings.path, ...stores.env };
      try {
        const first = await startServer({ dataDir, env });
        const { responses, conversations } = clientOf(first);
        const { id: conversation } = await conversations.create({});
        const ask = { input: "Think.", background: true, conversation };
        const quick = await responses.create({ ...ask, model: "quick" });
        await eventually("the quick one to end", async () =>
          (await responses.retrieve(quick.id)).status === "completed" ? true : undefined,
        );
        const stream = await responses.create({ ...ask, model: "endless", stream: true });
        let id = "";
        let last = -1;
        for await (const event of stream) {
          if (event.type === "response.created") id = event.response.id;
          last = event.sequence_number;
          if (event.type === "response.output_text.delta") break;
        }
        expect(await responses.retrieve(id)).toMatchObject({ status: "in_progress" });
        await first.kill();

        const second = await startServer({ dataDir, env });
        const again = clientOf(second);
        expect(await again.responses.retrieve(quick.id)).toMatchObject({
          status: "completed",
          output_text: "all is well",
        });
        const failed = await eventually("the lease to be over", async () => {
          const response = await again.responses.retrieve(id);
          return response.status === "in_progress" ? undefined : response;
        });
        expect(failed).toMatchObject({
          id,
          status: "failed",
          error: { code: "server_error", message: expect.stringContaining("ended") },
        });
        const types: string[] = [];
        let next = last;
        for await (const event of await again.responses.retrieve(id, {
          stream: true,
          starting_after: last,
        })) {
          types.push(event.type);
          expect(event.sequence_number).toBe(++next);
        }
        expect(types.at(-1)).toBe("response.failed");
        expect(await again.responses.cancel(id)).toMatchObject({ status: "failed" });
        const { data } = await again.conversations.items.list(conversation);
        expect(data).toHaveLength(2);
        await second.stop();
      } finally {
        await emulator.close();
        await settings.remove();
        await stores.close();
        await rm(dataDir, { recursive: true, force: true });
      }
    },
  );
});

function clientOf({ url, apiKey }: { url: string; apiKey: string }): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
}
