/** Incompatibilities 28, 33, 35, 43 and 44 where the embedded engine answers: names, odds, tools, stops and bounds. */
import { expect, test } from "vitest";
import { demoBase, demoModelPath } from "../../support/settings.ts";
import { clients, messages, testCases } from "./cases.ts";

const base = "support-tiny";
const triage = `${base}:support-triage`;

testCases([], {
  settings: {
    embedded: {
      ...demoBase,
      adapters: [{ name: "support-triage", folder: demoModelPath("adapters/support-triage") }],
    },
  },
  more(stage) {
    for (const { version, OpenAI } of clients) {
      const open = () =>
        new OpenAI({ baseURL: stage().url, apiKey: stage().server.apiKey, maxRetries: 0 });

      test(`28: openai ${version} finds an adapter by its name, with and without a version`, async () => {
        for (const name of [base, triage, `${triage}@1`, `${triage}@champion`]) {
          const found = await open().models.retrieve(name);
          expect(found).toMatchObject({ id: name, object: "model", owned_by: expect.any(String) });
          expect(Number.isInteger(found.created)).toBe(true);
        }
      });

      test(`33: openai ${version} gets the odds of chats and of texts in their own shapes`, async () => {
        const chat = await open().chat.completions.create({
          model: base,
          messages,
          max_tokens: 3,
          logprobs: true,
          top_logprobs: 2,
        });
        for (const one of chat.choices[0]?.logprobs?.content ?? []) {
          expect(one.logprob).toBeLessThanOrEqual(0);
          expect(one.top_logprobs).toHaveLength(2);
          expect(Buffer.from(one.bytes ?? []).toString()).toBe(one.token);
        }
        const { choices } = await open().completions.create({
          model: base,
          prompt: "Hello",
          max_tokens: 3,
          logprobs: 2,
        });
        const { tokens, token_logprobs, top_logprobs, text_offset } = choices[0]?.logprobs ?? {};
        expect(tokens?.length).toBeGreaterThan(0);
        for (const list of [token_logprobs, top_logprobs, text_offset]) {
          expect(list).toHaveLength(tokens?.length ?? -1);
        }
        expect(tokens?.join("")).toBe(choices[0]?.text);
      });

      test(`35: openai ${version} may send an empty list of tools to the engine`, async () => {
        const asked = { model: base, messages, max_tokens: 3, tools: [] };
        expect((await open().chat.completions.create(asked)).choices).toHaveLength(1);
      });

      test(`43: openai ${version} sees nothing of a stop string, wherever tokens cut it`, async () => {
        const asked = { model: base, messages, temperature: 0, max_tokens: 40 };
        const plain = await open().chat.completions.create(asked);
        const text = plain.choices[0]?.message.content ?? "";
        // From the middle of one token to the middle of a later one.
        const stop = text.slice(5, 12);
        expect(stop).toHaveLength(7);
        const stream = await open().chat.completions.create({ ...asked, stop, stream: true });
        let streamed = "";
        let finish: string | null = null;
        for await (const { choices } of stream) {
          streamed += choices[0]?.delta.content ?? "";
          finish = choices[0]?.finish_reason ?? finish;
        }
        expect(streamed).toBe(text.slice(0, text.indexOf(stop)));
        expect(finish).toBe("stop");
      });

      test(`44: openai ${version} may ask the engine for a top_p of 0`, async () => {
        const asked = { model: base, messages, max_tokens: 3, top_p: 0 };
        expect((await open().chat.completions.create(asked)).choices).toHaveLength(1);
      });
    }
  },
});
