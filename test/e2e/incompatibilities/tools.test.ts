/** Incompatibilities 1 to 5, 35, 36 and 42: tools and their calls, as servers get them wrong. */
import { expect } from "vitest";
import { type Case, messages, seeStream, seeWhole, testCases, tool } from "./cases.ts";
import { begin, chunk, done, either, frames, json, speak, type WireAnswer, whole } from "./wire.ts";

const weather = { tools: [tool("weather")] };
const paris = '{"city":"Paris"}';
const rome = '{"city":"Rome"}';
const called = (id: string, text: string) => ({ id, name: "weather", arguments: text });
const delta = (...calls: object[]) => chunk({ tool_calls: calls });
const end = chunk({}, "tool_calls");
const named = (id: string, text: unknown, more: object = {}) => ({
  id,
  type: "function",
  function: { name: "weather", arguments: text },
  ...more,
});

/** A stream's call and the whole answer's, whose arguments are nothing. */
const argumentless = (text: unknown): WireAnswer =>
  either(
    frames(begin, delta(named("a", text, { index: 0 })), end, done),
    whole({ tool_calls: [named("a", text)] }, "tool_calls"),
  );

const cases: Case[] = [
  {
    name: "1: calls that an upstream streams without an index are numbered from 0",
    upstreams: ["compatible", "mistral", "ollama"],
    upstream: frames(
      begin,
      delta(named("aaaaaaaaa", paris)),
      delta(named("bbbbbbbbb", rome)),
      end,
      done,
    ),
    see: (client, model) => seeStream(client, model, weather),
    expected: {
      indexes: [0, 1],
      final: {
        finish: "tool_calls",
        calls: [called("aaaaaaaaa", paris), called("bbbbbbbbb", rome)],
      },
    },
  },
  {
    name: "2: parallel calls that all have index 0 stay apart",
    upstreams: ["compatible", "ollama"],
    upstream: frames(
      begin,
      delta(named("a", paris, { index: 0 })),
      delta(named("b", rome, { index: 0 })),
      end,
      done,
    ),
    see: (client, model) => seeStream(client, model, weather),
    expected: { indexes: [0, 1], final: { calls: [called("a", paris), called("b", rome)] } },
  },
  {
    name: "3: a call's name, id and type come once, whatever later deltas repeat or leave empty",
    upstreams: ["compatible"],
    upstream: frames(
      begin,
      delta(named("a", '{"city"', { index: 0 })),
      delta({
        index: 0,
        id: "a",
        type: "function",
        function: { name: "weather", arguments: ':"Pa' },
      }),
      delta({ index: 0, id: "", type: null, function: { name: "", arguments: "ri" } }),
      delta({ index: 0, id: null, function: { name: null, arguments: 's"}' } }),
      end,
      done,
    ),
    see: (client, model) => seeStream(client, model, weather),
    expected: { names: 1, indexes: [0], final: { calls: [called("a", paris)] } },
  },
  ...[["", "an empty text"] as const, [null, "null"] as const, [{}, "an object"] as const].map(
    ([text, what], at): Case => ({
      name: `4.${at + 1}: a call whose arguments are ${what} has the arguments {}` as Case["name"],
      upstreams: ["compatible"],
      upstream: argumentless(text),
      see: async (client, model) => [
        (await seeStream(client, model, weather)).final.calls,
        (await seeWhole(client, model, weather)).calls,
      ],
      expected: [[called("a", "{}")], [called("a", "{}")]],
    }),
  ),
  {
    name: '5: an upstream that says "stop" after calls has called',
    upstreams: ["compatible", "azure"],
    upstream: either(
      frames(begin, delta(named("a", paris, { index: 0 })), chunk({}, "stop"), done),
      whole({ tool_calls: [named("a", paris)] }, "stop"),
    ),
    see: async (client, model) => [
      (await seeStream(client, model, weather)).final.finish,
      (await seeWhole(client, model, weather)).finish,
    ],
    expected: ["tool_calls", "tool_calls"],
  },
  {
    name: "35: an empty list of tools is none, and a function without parameters takes none",
    upstreams: ["compatible", "mistral"],
    upstream: speak("fine"),
    see: async (client, model) => [
      (await seeStream(client, model, { tools: [] })).final.content,
      (
        await seeStream(client, model, {
          tools: [{ type: "function", function: { name: "now" } }],
        })
      ).final.content,
    ],
    expected: ["fine", "fine"],
    sent(requests) {
      expect(requests[0]?.body).not.toHaveProperty("tools");
      expect(requests.at(-1)?.body.tools).toEqual([
        {
          type: "function",
          function: { name: "now", parameters: { type: "object", properties: {} } },
        },
      ]);
    },
  },
  {
    name: "36.1: parallel_tool_calls: false leaves one call, also of an upstream that ignores it",
    upstreams: ["compatible"],
    upstream: either(
      frames(
        begin,
        delta(named("a", paris, { index: 0 }), named("b", rome, { index: 1 })),
        end,
        done,
      ),
      whole({ tool_calls: [named("a", paris), named("b", rome)] }, "tool_calls"),
    ),
    see: async (client, model) => {
      const one = { ...weather, parallel_tool_calls: false };
      return [
        (await seeStream(client, model, one)).final.calls,
        (await seeWhole(client, model, one)).calls,
      ];
    },
    expected: [[called("a", paris)], [called("a", paris)]],
  },
  {
    name: "36.2: tool_choice none and a named tool reach an upstream that ignores it as the tools it is given",
    upstreams: ["ollama"],
    upstream: speak("fine"),
    see: async (client, model) => {
      const tools = [tool("weather"), tool("time")];
      const choice = { type: "function" as const, function: { name: "time" } };
      await seeWhole(client, model, { tools, tool_choice: "none" });
      return (await seeStream(client, model, { tools, tool_choice: choice })).final.content;
    },
    expected: "fine",
    sent(requests) {
      expect(requests[0]?.body).not.toHaveProperty("tools");
      expect(requests.at(-1)?.body.tools).toMatchObject([{ function: { name: "time" } }]);
    },
  },
  {
    name: "42: Mistral's ids of calls have nine letters and digits, the same for a call and its result",
    upstreams: ["mistral"],
    upstream: json({
      id: "1",
      object: "chat.completion",
      model: "m",
      choices: [{ index: 0, message: { role: "assistant", content: "21" }, finish_reason: "stop" }],
    }),
    see: (client, model) =>
      seeWhole(client, model, {
        ...weather,
        messages: [
          ...messages,
          {
            role: "assistant",
            content: null,
            tool_calls: [
              {
                id: "call_abcdefghijklmnop",
                type: "function",
                function: { name: "weather", arguments: paris },
              },
            ],
          },
          { role: "tool", tool_call_id: "call_abcdefghijklmnop", content: "21" },
        ],
      }),
    expected: { content: "21" },
    sent([request]) {
      const id = request?.body.messages[1].tool_calls[0].id;
      expect(id).toMatch(/^[a-zA-Z0-9]{9}$/);
      expect(request?.body.messages[2].tool_call_id).toBe(id);
    },
  },
];

testCases(cases);
