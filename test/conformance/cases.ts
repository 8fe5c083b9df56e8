/** What is asked of every dialect in front of every upstream, and what has to come of it. */
import assert from "node:assert/strict";
import type { Dialect, Fault, Feature, Upstream } from "./driver.ts";
import type { Ask, Heard, Part, Raw, Refusal, Said, Seen } from "./neutral.ts";

export type Asked = {
  dialect: Dialect;
  upstream: Upstream;
  stream: boolean;
  /** Of each turn. */
  heard: Heard[];
  /** Of the last one. */
  raw: Raw;
  seen?: Seen | undefined;
  refusal?: Refusal;
};

export type Case = {
  name: string;
  asks: (Ask | ((heard: readonly Heard[]) => Ask))[];
  /** What the model answers, turn by turn; `undefined` where this upstream has no words for it. */
  said: (upstream: Upstream) => Said[] | undefined;
  fault?: Fault;
  streamOnly?: true;
  /** What a dialect needs words for, to ask or to hear it. */
  needs?: Feature[];
  /** Whether an error is what should come, and not because of a place that lacks. */
  fails?: true;
  /** What the error names where an upstream has no place for it. */
  refused?: (cell: { dialect: Dialect; upstream: Upstream }) => RegExp | undefined;
  /** @throws AssertionError */
  check(asked: Asked): void;
};

const hello = "Hello, wörld 🦜 and all";
const png =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=";
const pdf = Buffer.from("%PDF-1.4 emulated").toString("base64");
const text = (words: string): Part => ({ type: "text", text: words });
const user = (...parts: (string | Part)[]) => ({
  role: "user" as const,
  parts: parts.map((part) => (typeof part === "string" ? text(part) : part)),
});
const says =
  (...said: Said[]) =>
  () =>
    said;
const tools = [
  {
    name: "look",
    description: "Looks something up.",
    parameters: {
      type: "object",
      properties: { x: { type: "string", maxLength: 4 } },
      required: ["x"],
      additionalProperties: false,
    },
  },
  { name: "now", description: "Tells the time." },
];
const looks = { id: "call_1", name: "look", input: { x: "ö" } };
const looksAgain = { id: "call_2", name: "look", input: { x: "{}" } };
const tellsTime = { id: "call_3", name: "now", input: {} };

const freeTextTool = { name: "shell", description: "Runs a command." };
/** A function of one text to all who know functions alone. */
const listsIn = ({ name }: Upstream) => ({
  id: "call_1",
  name: "shell",
  input: { input: "ls -l" },
  ...(name.startsWith("OpenAI") && { freeText: "ls -l" }),
});

/** Who is asked in the client's own words gets them as they are. */
const passes = (dialect: Dialect, upstream: Upstream) =>
  (dialect.name === "completions" && /OpenAI|adapter-server/.test(upstream.name)) ||
  (dialect.name === "chat" && ["OpenAI chat", "adapter-server"].includes(upstream.name)) ||
  (dialect.name === "responses" && upstream.name === "OpenAI responses") ||
  (dialect.name === "messages" && upstream.name === "Anthropic") ||
  (dialect.name === "generateContent" && upstream.name === "Gemini") ||
  (dialect.name === "Converse" && upstream.name === "Bedrock");

/** @param refusals by the upstream's name; those are spared whose dialect has the words that the upstream has none for */
const refusedBy =
  (refusals: Readonly<Record<string, RegExp>>): NonNullable<Case["refused"]> =>
  ({ upstream }) =>
    refusals[upstream.name];

function answered({ dialect, upstream, heard }: Asked, said = hello): Heard {
  const [last] = heard.slice(-1);
  assert.ok(last);
  assert.ok(last.usage.input > 0 && last.usage.output >= 0, "usage is told");
  if (!upstream.scripted) return last;
  assert.equal(last.text, said);
  assert.equal(last.finish, dialect.ends.stop);
  return last;
}

function called({ dialect, upstream, heard }: Asked, calls: Said["calls"]): void {
  const [first] = heard;
  assert.ok(first);
  if (!upstream.scripted) {
    assert.ok(first.calls.length > 0, "something is called");
    for (const { name } of first.calls) assert.ok(["look", "now"].includes(name));
    return;
  }
  assert.deepEqual(first.calls, calls);
  assert.equal(first.finish, dialect.ends.calls);
}

function toldDropped({ raw }: Asked, name: RegExp): void {
  assert.match(raw.dropped, name, "what was left out is told");
}

function refusedWith({ refusal }: Asked, status: number): void {
  assert.ok(refusal, "there is an error");
  assert.equal(refusal.status, status);
  assert.doesNotMatch(refusal.message, /key-of-|sk-of-/, "an upstream's credential is not told");
}

export const cases: readonly Case[] = [
  {
    name: "text",
    asks: [{ turns: [user("Hi there")] }],
    said: says({ text: hello }),
    check(asked) {
      answered(asked);
      assert.deepEqual(asked.seen?.said ?? ["user: Hi there"], ["user: Hi there"]);
    },
  },
  {
    name: "instructions",
    asks: [{ system: "Be brief.", turns: [user("Hi")] }],
    said: says({ text: hello }),
    check(asked) {
      answered(asked);
      if (asked.seen) assert.equal(asked.seen.system, "Be brief.");
    },
  },
  {
    name: "several turns",
    asks: [{ turns: [user("One"), { role: "assistant", text: "Two" }, user("Three")] }],
    said: says({ text: hello }),
    check(asked) {
      answered(asked);
      const said = ["user: One", "assistant: Two", "user: Three"];
      if (asked.seen) assert.deepEqual(asked.seen.said, said);
    },
  },
  {
    name: "temperature",
    asks: [{ temperature: 0.5, turns: [user("Hi")] }],
    said: says({ text: hello }),
    // Its newest version takes none, and what passes is not changed.
    refused: ({ dialect, upstream }) =>
      dialect.name === "messages" && passes(dialect, upstream) ? /temperature/ : undefined,
    check(asked) {
      answered(asked);
      if (asked.seen) assert.equal(asked.seen.temperature, 0.5);
    },
  },
  {
    name: "characters cut over frames",
    asks: [{ turns: [user("Hi")] }],
    said: says({ text: "öäü 🦜🦜 日本語" }),
    fault: "split",
    streamOnly: true,
    check: (asked) => void answered(asked, "öäü 🦜🦜 日本語"),
  },
  {
    name: "image",
    asks: [{ turns: [user("What is it?", { type: "image", data: png })] }],
    said: says({ text: hello }),
    refused: refusedBy({ "adapter-server": /messages\[0\]/ }),
    check(asked) {
      answered(asked);
      assert.deepEqual(asked.seen?.images, [png]);
    },
  },
  {
    name: "image by URL",
    asks: [{ turns: [user("Look", { type: "image_url", url: "https://a.example/b.png" })] }],
    said: says({ text: hello }),
    needs: ["imageUrl"],
    refused: refusedBy({ Bedrock: /image by URL/, "adapter-server": /messages\[0\]/ }),
    check(asked) {
      answered(asked);
      assert.deepEqual(asked.seen?.images, ["https://a.example/b.png"]);
    },
  },
  {
    name: "PDF",
    asks: [{ turns: [user("Read", { type: "pdf", data: pdf, name: "a.pdf" })] }],
    said: says({ text: hello }),
    refused: refusedBy({ Cohere: /application\/pdf/, "adapter-server": /messages\[0\]/ }),
    check(asked) {
      answered(asked);
      assert.deepEqual(asked.seen?.files, [pdf]);
    },
  },
  {
    name: "text in a file",
    asks: [{ turns: [user("Read", { type: "text_file", text: "Cats sleep.", name: "a.txt" })] }],
    said: says({ text: hello }),
    refused: ({ dialect, upstream }) =>
      upstream.name === "adapter-server" && passes(dialect, upstream) ? /messages\[0\]/ : undefined,
    check(asked) {
      answered(asked);
      const { files = [], said = [] } = asked.seen ?? {};
      const inline = files.map((file) => Buffer.from(file, "base64").toString());
      if (asked.seen) assert.match([...said, ...inline].join("\n"), /Cats sleep\./);
    },
  },
  {
    name: "tool call",
    asks: [{ tools, turns: [user("Look it up")] }],
    said: says({ calls: [looks] }),
    refused: refusedBy({ "adapter-server": /tools/ }),
    check(asked) {
      called(asked, [looks]);
      assert.deepEqual(asked.seen?.tools, ["look", "now"]);
    },
  },
  {
    name: "text before a tool call",
    asks: [{ tools, turns: [user("Look it up")] }],
    said: says({ text: "I will look.", calls: [looks] }),
    refused: refusedBy({ "adapter-server": /tools/ }),
    check(asked) {
      called(asked, [looks]);
      assert.equal(asked.heard[0]?.text, "I will look.");
    },
  },
  {
    name: "tool calls in parallel",
    asks: [{ tools, turns: [user("Look both up")] }],
    said: says({ calls: [looks, looksAgain, tellsTime] }),
    refused: refusedBy({ "adapter-server": /tools/ }),
    check: (asked) => called(asked, [looks, looksAgain, tellsTime]),
  },
  {
    name: "tool call without arguments",
    asks: [{ tools, turns: [user("What time is it?")] }],
    said: says({ calls: [tellsTime] }),
    refused: refusedBy({ "adapter-server": /tools/ }),
    check: (asked) => called(asked, [tellsTime]),
  },
  {
    name: "some tool has to be called",
    asks: [
      {
        tools: tools.slice(0, 1),
        toolChoice: "required",
        turns: [user("Hi")],
        outputTokensMax: 500,
      },
    ],
    said: says({ calls: [looks] }),
    check(asked) {
      called(asked, [looks]);
      if (asked.seen) assert.equal(asked.seen.choice, "required");
    },
  },
  {
    name: "one tool has to be called",
    asks: [{ tools, toolChoice: { name: "look" }, turns: [user("Hi")], outputTokensMax: 500 }],
    said: says({ calls: [looks] }),
    check(asked) {
      called(asked, [looks]);
      const { choice, tools } = asked.seen ?? {};
      // The only one that there is, where none can be named.
      if (asked.upstream.name === "Cohere")
        assert.deepEqual([choice, tools], ["required", ["look"]]);
      else if (asked.seen) assert.equal(choice, "look");
    },
  },
  {
    name: "no tool may be called",
    asks: [{ tools, toolChoice: "none", turns: [user("Hi")] }],
    said: says({ text: hello }),
    needs: ["choiceNone"],
    check(asked) {
      answered(asked);
      if (!asked.seen) return;
      const { choice, tools } = asked.seen;
      assert.ok(choice === "none" || tools.length === 0, "nothing is there to be called");
    },
  },
  {
    name: "tool results",
    asks: [
      { tools, turns: [user("Look both up")] },
      ([heard]) => ({
        tools,
        turns: [
          user("Look both up"),
          { role: "heard", heard: heard as Heard },
          {
            role: "results",
            results: [
              { id: "call_2", name: "look", text: "braces" },
              { id: "call_1", name: "look", text: "a letter" },
            ],
          },
        ],
      }),
    ],
    said: says({ calls: [looks, looksAgain] }, { text: hello }),
    refused: refusedBy({ "adapter-server": /tools/ }),
    check(asked) {
      answered(asked);
      assert.deepEqual(asked.seen?.calls, [looks, looksAgain]);
      assert.deepEqual(
        [...asked.seen.results].sort((one, other) => one.id.localeCompare(other.id)),
        [
          { id: "call_1", text: "a letter", failed: false },
          { id: "call_2", text: "braces", failed: false },
        ],
      );
    },
  },
  {
    name: "tool result that is an error",
    asks: [
      { tools, turns: [user("Look it up")] },
      ([heard]) => ({
        tools,
        turns: [
          user("Look it up"),
          { role: "heard", heard: heard as Heard },
          {
            role: "results",
            results: [{ id: "call_1", name: "look", text: "not found", failed: true }],
          },
        ],
      }),
    ],
    said: says({ calls: [looks] }, { text: hello }),
    needs: ["failedResult"],
    refused: refusedBy({ "adapter-server": /tools/ }),
    check(asked) {
      answered(asked);
      const [result] = asked.seen?.results ?? [];
      assert.equal(result?.failed, true);
      assert.match(result?.text ?? "", /not found/);
    },
  },
  {
    name: "tool of free text",
    asks: [
      { freeTextTool, toolChoice: { name: "shell" }, turns: [user("List")], outputTokensMax: 200 },
    ],
    said: (upstream) => [{ calls: [listsIn(upstream)] }],
    needs: ["freeText"],
    check({ upstream, heard, seen }) {
      const [call] = heard[0]?.calls ?? [];
      assert.equal(call?.name, "shell");
      assert.equal(typeof call.input, "string");
      if (upstream.scripted) assert.equal(call.input, "ls -l");
      assert.deepEqual(seen?.tools ?? ["shell"], ["shell"]);
    },
  },
  {
    name: "result of a tool of free text",
    asks: [
      { freeTextTool, turns: [user("List")] },
      ([heard]) => ({
        freeTextTool,
        turns: [
          user("List"),
          { role: "heard", heard: heard as Heard },
          {
            role: "results",
            results: [{ id: "call_1", name: "shell", text: "a.txt", freeText: true }],
          },
        ],
      }),
    ],
    said: (upstream) => [{ calls: [listsIn(upstream)] }, { text: hello }],
    needs: ["freeText"],
    refused: refusedBy({ "adapter-server": /tools/ }),
    check(asked) {
      answered(asked);
      const { input = "ls -l", freeText = input } = listsIn(asked.upstream);
      assert.deepEqual(asked.seen?.calls, [{ id: "call_1", name: "shell", input: freeText }]);
      assert.equal(asked.seen.results[0]?.text, "a.txt");
    },
  },
  {
    name: "JSON schema",
    asks: [
      {
        schema: {
          type: "object",
          properties: { color: { type: "string", enum: ["red", "blue"] } },
          required: ["color"],
          additionalProperties: false,
        },
        turns: [user("Answer in JSON")],
      },
    ],
    said: says({ text: '{"color":"red"}' }),
    check(asked) {
      const { text: said } = answered(asked, '{"color":"red"}');
      assert.match(JSON.parse(said).color, /^(red|blue)$/);
      const schema = asked.seen?.schema as { required?: string[] } | undefined;
      if (asked.seen) assert.deepEqual(schema?.required, ["color"]);
    },
  },
  {
    name: "stop sequence",
    asks: [{ stop: ["END"], turns: [user("Hi")] }],
    said: says({ text: hello, end: "stop_sequence" }),
    needs: ["stop"],
    refused: ({ dialect, upstream }) =>
      upstream.name === "OpenAI responses" && !passes(dialect, upstream) ? /stop/ : undefined,
    check(asked) {
      const { dialect, upstream, seen, heard } = asked;
      if (!seen) return;
      assert.deepEqual(seen.stop, ["END"]);
      const { stop_sequence, stop } = dialect.ends;
      assert.equal(heard[0]?.finish, upstream.stopped ? stop_sequence : stop);
    },
  },
  {
    name: "most tokens",
    asks: [{ outputTokensMax: 16, turns: [user("Count to a million, and say each number.")] }],
    said: says({ text: hello, end: "length" }),
    check({ dialect, heard, seen }) {
      assert.equal(heard[0]?.finish, dialect.ends.length);
      if (seen) assert.equal(seen.outputTokensMax, 16);
    },
  },
  {
    name: "thoughts",
    asks: [{ reasoning: true, outputTokensMax: 4096, turns: [user("Think")] }],
    said: ({ scripted }) => (scripted ? [{ reasoning: "Let me see.", text: hello }] : undefined),
    check(asked) {
      const { reasoning } = answered(asked);
      assert.equal(reasoning, "Let me see.");
      assert.equal(asked.seen?.thinks, true);
    },
  },
  {
    name: "thoughts kept over a loop of tools",
    asks: [
      { tools, reasoning: true, outputTokensMax: 4096, turns: [user("Think")] },
      ([heard]) => ({
        tools,
        reasoning: true,
        outputTokensMax: 4096,
        turns: [
          user("Think"),
          { role: "heard", heard: heard as Heard },
          { role: "results", results: [{ id: "call_1", name: "look", text: "a letter" }] },
        ],
      }),
    ],
    said: ({ seals }) =>
      seals ? [{ reasoning: "Let me see.", calls: [looks] }, { text: hello }] : undefined,
    check(asked) {
      answered(asked);
      assert.ok((asked.seen?.seals.length ?? 0) > 0, "the signature came back");
    },
  },
  {
    name: "citations",
    needs: ["conversation"],
    asks: [{ turns: [user("Who says so?")] }],
    said: ({ scripted }) =>
      scripted
        ? [{ text: hello, cites: { url: "https://a.example", title: "A", end: 5 } }]
        : undefined,
    check(asked) {
      assert.deepEqual(answered(asked).cited, ["https://a.example"]);
    },
  },
  {
    name: "log-probabilities",
    asks: [{ logprobs: 0, turns: [user("Hi")] }],
    said: says({ text: "Hello there you", logprobs: [-0.5, -1.5, -2.5] }),
    needs: ["logprobs"],
    refused: refusedBy({ Anthropic: /logprobs/, Bedrock: /logprobs/ }),
    check(asked) {
      const { logprobs } = answered(asked, "Hello there you");
      if (asked.seen) assert.deepEqual(logprobs, [-0.5, -1.5, -2.5]);
      else assert.ok(logprobs.length > 0);
    },
  },
  {
    name: "refusal",
    asks: [{ turns: [user("How do I …?")] }],
    said: ({ refuses }) => (refuses ? [{ refusal: "I cannot help with that." }] : undefined),
    needs: ["refusal"],
    check({ heard }) {
      assert.equal(heard[0]?.refusal, "I cannot help with that.");
      assert.equal(heard[0]?.text, "");
    },
  },
  {
    name: "answer cut off by a filter",
    asks: [{ turns: [user("How do I …?")] }],
    said: ({ filters }) => (filters ? [{ text: "First", end: "content_filter" }] : undefined),
    check({ dialect, heard }) {
      assert.equal(heard[0]?.finish, dialect.ends.content_filter);
    },
  },
  {
    name: "usage with cached tokens and thoughts",
    asks: [{ turns: [user("Hi")] }],
    said: ({ tells }) => [
      {
        text: hello,
        usage: {
          input: 10,
          output: 5,
          ...(tells.cacheRead && { cacheRead: 100 }),
          ...(tells.cacheWrite && { cacheWrite: 20 }),
          ...(tells.reasoning && { reasoning: 7 }),
        },
      },
    ],
    check(asked) {
      const { usage } = answered(asked);
      const { tells, scripted } = asked.upstream;
      if (!scripted) return;
      assert.equal(usage.input, 110 + (tells.cacheWrite ? 20 : 0));
      assert.equal(usage.cacheRead, 100);
      assert.equal(usage.output, tells.reasoning ? 12 : 5);
      const counts = asked.dialect.name !== "Converse" && tells.reasoning;
      if (counts) assert.equal(usage.reasoning, 7);
    },
  },
  {
    name: "prompt worth keeping",
    asks: [{ system: "Be brief.", keepsPrompt: true, turns: [user("Hi")] }],
    said: says({ text: hello }),
    needs: ["keepsPrompt"],
    check(asked) {
      answered(asked);
      const { name } = asked.upstream;
      if (name === "Anthropic" || name === "Bedrock") assert.equal(asked.seen?.cacheMarks, 1);
      else toldDropped(asked, /cache_control/);
    },
  },
  {
    name: "field that nobody knows",
    asks: [{ unknown: true, turns: [user("Hi")] }],
    said: says({ text: hello }),
    needs: ["unknown"],
    refused: ({ dialect, upstream }) =>
      // It travels on to who may want it, and the emulated ones do not.
      passes(dialect, upstream) && upstream.name !== "Bedrock" ? /field_of_nobody/ : undefined,
    check(asked) {
      answered(asked);
      if (!passes(asked.dialect, asked.upstream)) toldDropped(asked, /field_of_nobody/);
    },
  },
  {
    name: "error: wrong request",
    asks: [{ turns: [user("Hi")] }],
    said: says({}),
    fault: "400",
    fails: true,
    check: (asked) => refusedWith(asked, 400),
  },
  {
    name: "error: the gateway's credential",
    asks: [{ turns: [user("Hi")] }],
    said: says({}),
    fault: "401",
    fails: true,
    check: (asked) => refusedWith(asked, asked.dialect.statuses.failed),
  },
  {
    name: "error: too many requests",
    asks: [{ turns: [user("Hi")] }],
    said: says({}),
    fault: "429",
    fails: true,
    check: (asked) => refusedWith(asked, 429),
  },
  {
    name: "error: failed",
    asks: [{ turns: [user("Hi")] }],
    said: says({}),
    fault: "500",
    fails: true,
    check: (asked) => refusedWith(asked, asked.dialect.statuses.failed),
  },
  {
    name: "error: overloaded",
    asks: [{ turns: [user("Hi")] }],
    said: says({}),
    fault: "overloaded",
    fails: true,
    check: (asked) => refusedWith(asked, asked.dialect.statuses.overloaded),
  },
  {
    name: "error in a stream",
    asks: [{ turns: [user("Hi")] }],
    said: says({ text: hello }),
    fault: "broken",
    streamOnly: true,
    fails: true,
    check: ({ refusal, raw }) => {
      assert.equal(raw.status, 200);
      assert.ok(refusal, "the stream ends with an error");
    },
  },
  {
    name: "stream that is cut",
    asks: [{ turns: [user("Hi")] }],
    said: says({ text: hello }),
    fault: "cut",
    streamOnly: true,
    fails: true,
    check: ({ refusal, raw }) => {
      assert.equal(raw.status, 200);
      assert.ok(refusal, "the stream ends with an error");
    },
  },
];
