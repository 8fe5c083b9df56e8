/** Incompatibilities 12 and 13: vectors, whose two forms clients and servers disagree about, and inputs of token ids. */
import { expect, test } from "vitest";
import { type Case, testCases } from "./cases.ts";
import { json, type WireAnswer } from "./wire.ts";

const vector = [0.1, -0.25, 1e-7, 3];
const base64 = Buffer.from(new Float32Array(vector).buffer).toString("base64");
const embedded = (...embeddings: unknown[]): WireAnswer =>
  json({
    object: "list",
    data: embeddings.map((embedding, index) => ({ object: "embedding", index, embedding })),
    model: "wire",
    usage: { prompt_tokens: 2, total_tokens: 2 },
  });
const kinds = ["openai", "compatible", "vllm"] as const;
const rounded = vector.map((value) => Math.round(value * 1e7) / 1e7);

const cases: Case[] = [
  ...[
    ["12.1", "numbers", embedded(vector)] as const,
    ["12.2", "base64", embedded(base64)] as const,
    [
      "12.3",
      "what was asked for",
      ((response, request) =>
        embedded(request.body.encoding_format === "base64" ? base64 : vector)(
          response,
          request,
        )) satisfies WireAnswer,
    ] as const,
  ].map(
    ([number, what, upstream]): Case => ({
      name: `${number}: the client's vector is the upstream's, which sends ${what}` as Case["name"],
      upstreams: kinds,
      upstream,
      see: async (client, model) => {
        const asked = { model, input: "Hello" };
        const plain = await client.embeddings.create(asked);
        const floats = await client.embeddings.create({ ...asked, encoding_format: "float" });
        return [plain, floats].map(({ data }) =>
          data[0]?.embedding.map((value) => Math.round(value * 1e7) / 1e7),
        );
      },
      expected: [rounded, rounded],
    }),
  ),
  {
    name: "13: token ids are an input, one list and several",
    upstreams: kinds,
    upstream: (response, request) => {
      const { input } = request.body;
      const vectors = (Array.isArray(input[0]) ? input : [input]).map(() => base64);
      embedded(...vectors)(response, request);
    },
    see: async (client, model) => {
      const one = await client.embeddings.create({ model, input: [1, 2, 3] });
      const two = await client.embeddings.create({ model, input: [[1, 2], [3]] });
      return [one.data.length, two.data.length];
    },
    expected: [1, 2],
    sent(requests) {
      expect(requests.map(({ body }) => body.input)).toEqual([
        [1, 2, 3],
        [[1, 2], [3]],
      ]);
    },
  },
];

testCases(cases, {
  more(stage) {
    test.each(kinds)("12: on the wire too, each form is what was asked for (%s)", async (type) => {
      const { url, server } = stage();
      const ask = async (model: string, encoding_format: string) => {
        const response = await fetch(`${url}/embeddings`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${server.apiKey}`,
            "content-type": "application/json",
          },
          body: JSON.stringify({ model, input: "Hello", encoding_format }),
        });
        const answer = (await response.json()) as { data: { embedding: unknown }[] };
        return answer.data[0]?.embedding;
      };
      expect(await ask(`12.1/${type}`, "base64")).toBe(base64);
      expect(await ask(`12.2/${type}`, "float")).toEqual([...new Float32Array(vector)]);
    });
  },
});
