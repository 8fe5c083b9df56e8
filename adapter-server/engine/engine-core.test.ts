/** The whole engine but for the model: what it does for each kind of request, step by step. */
import { describe, expect, test } from "vitest";
import { request, setup, vocabSize } from "./__fixtures__/core-harness.ts";
import type { Pooling } from "./pooling.ts";
import type { SequenceRequest } from "./sequence.ts";
import { simulatedAdapter, simulatedContinuation, simulatedToken } from "./simulated-runner.ts";

test("batched with others, with adapters swapped in and out, every sequence decodes as if alone", async () => {
  const { core, drain, tokensOf, outputs } = setup({ slots: 2, blocks: 40 });
  const requests = Array.from({ length: 30 }, (_, index) =>
    request(index + 1, {
      adapter: index % 4 === 0 ? undefined : `adapter-${index % 5}`,
      prompt: Array.from({ length: 1 + (index % 13) }, (_, i) => (index * 7 + i) % vocabSize),
    }),
  );
  for (let i = 0; i < 5; i++) {
    core.receive({ type: "adapter", adapter: simulatedAdapter(`adapter-${i}`) });
  }
  for (const one of requests) core.receive({ type: "add", request: one });
  await drain();
  for (const one of requests) {
    expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
    expect(outputs.get(one.id)?.[0]?.adapter).toBe(one.adapter);
  }
});

describe("an adapter that the runner makes itself ready for", () => {
  const digest = "x";
  const adapter = simulatedAdapter(digest);

  /** A runner that is at it until the test says how it went. */
  function preparing(options: Parameters<typeof setup>[0] = {}, limits = {}) {
    const all = setup(options, limits);
    const attempts: { settle: (error?: Error) => Promise<void> }[] = [];
    all.runner.expectAdapter = (expected) => {
      if (expected.digest !== digest) return undefined;
      return new Promise<void>((resolve, reject) => {
        const settle = async (error?: Error) => {
          if (error) reject(error);
          else resolve();
          await new Promise(setImmediate);
        };
        attempts.push({ settle });
      });
    };
    all.core.receive({ type: "adapter", adapter });
    return { ...all, attempts };
  }

  test("holds up its own sequences, and nobody else's", async () => {
    const { core, runner, attempts, drain, tokensOf, known } = preparing({ slots: 1 });
    core.receive({ type: "adapter", adapter: simulatedAdapter("y") });
    const others = [request(1), request(2, { adapter: "y" })];
    const own = [request(3, { adapter: digest }), request(4, { adapter: digest })];
    for (const one of [...own, ...others]) core.receive({ type: "add", request: one });
    await drain();
    for (const one of others) {
      expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
    }
    expect(known).toEqual([["y"]]);
    expect(runner.loaded).toEqual([undefined, "y"]);
    expect(own.flatMap(({ id }) => tokensOf(id))).toEqual([]);

    await attempts[0]!.settle();
    expect(core.hasWork).toBe(true);
    await drain();
    for (const one of own) {
      expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
    }
    expect(known).toEqual([["y"], [digest]]);
    expect(attempts).toHaveLength(1);
  });

  test("fails those who wait for it where that goes wrong; who comes next tries it again", async () => {
    const { core, attempts, drain, tokensOf, outputs, known } = preparing();
    for (const one of [request(1, { adapter: digest }), request(2)]) {
      core.receive({ type: "add", request: one });
    }
    await drain();
    await attempts[0]!.settle(new Error("no memory"));
    await drain();
    expect(outputs.get(1)).toMatchObject([{ error: { code: "internal_error" } }]);
    expect(tokensOf(2)).toEqual(simulatedContinuation({ ...request(2), vocabSize }));
    expect(known).toEqual([[digest, "internal_error"]]);

    const again = request(3, { adapter: digest });
    core.receive({ type: "add", request: again });
    await drain();
    await attempts[1]!.settle();
    await drain();
    expect(tokensOf(3)).toEqual(simulatedContinuation({ ...again, vocabSize }));
  });

  test("is forgotten meanwhile once nobody waits for it, and can be known anew", async () => {
    const { core, attempts, turn, drain, tokensOf, outputs, forgotten } = preparing();
    core.receive({ type: "add", request: request(1, { adapter: digest }) });
    core.receive({ type: "forget", digest });
    await turn();
    expect(forgotten).toEqual([]);
    core.receive({ type: "cancel", id: 1 });
    await turn();
    expect(forgotten).toEqual([digest]);

    core.receive({ type: "adapter", adapter });
    const later = request(2, { adapter: digest });
    core.receive({ type: "add", request: later });
    await turn();
    // What was begun for the one that is forgotten says nothing of this one.
    await attempts[0]!.settle(new Error("late"));
    await drain();
    expect(outputs.get(2)).toBe(undefined);
    await attempts[1]!.settle();
    await drain();
    expect(tokensOf(2)).toEqual(simulatedContinuation({ ...later, vocabSize }));
    expect(outputs.get(1)).toBe(undefined);
  });

  test("is waited for by as many as may wait, and further ones are refused", async () => {
    const { core, attempts, drain, tokensOf, outputs } = preparing({}, { waitingMax: 2 });
    for (const id of [1, 2, 3]) {
      core.receive({ type: "add", request: request(id, { adapter: digest }) });
    }
    await drain();
    expect(outputs.get(3)).toMatchObject([{ error: { code: "server_is_overloaded" } }]);
    await attempts[0]!.settle();
    await drain();
    expect([1, 2].map((id) => tokensOf(id).length > 0)).toEqual([true, true]);
  });
});

test.each<Pooling>(["last", "mean"])(
  "a prompt's %s is pooled from each of its tokens once, however it is cut, preempted and shared",
  async (pooling) => {
    // Few blocks, so that sequences lose theirs half-way; equal beginnings, so that some are cached.
    const { core, drain, outputs, stats } = setup({ blocks: 14, contextLength: 64 });
    core.receive({ type: "adapter", adapter: simulatedAdapter("x") });
    const embeds = Array.from({ length: 12 }, (_, index) =>
      request(index + 1, {
        prompt: Array.from({ length: 1 + 3 * index }, (_, i) => i % vocabSize),
        adapter: index % 3 === 0 ? "x" : undefined,
        pooling,
        maxTokens: 0,
      }),
    );
    const talks = [20, 21, 22].map((id) => request(id, { maxTokens: 18, stopIds: [] }));
    for (const one of [...talks, ...embeds]) core.receive({ type: "add", request: one });
    await drain();
    for (const { id, prompt, adapter } of embeds) {
      const said = prompt.map((_, i) => simulatedToken(prompt.slice(0, i + 1), adapter, vocabSize));
      const mean = said.reduce((sum, token) => sum + token, 0) / said.length;
      const [output, ...others] = outputs.get(id)!;
      expect(others).toEqual([]);
      expect(output).toMatchObject({ finish: "stop", ...(adapter && { adapter }) });
      expect(output!.embedding![0]).toBeCloseTo(pooling === "mean" ? mean : said.at(-1)!, 4);
    }
    expect(stats()).toMatchObject({ blocksUsed: 0 });
    expect(stats()!.preemptions).toBeGreaterThan(0);
    if (pooling === "mean") expect(outputs.get(12)?.[0]?.cachedTokens).toBe(0);
    else expect(stats()!.prefixTokensHit).toBeGreaterThan(0);
  },
);

test("every token of a prompt is scored once, however it is cut, preempted and shared", async () => {
  const { runner, core, drain, tokensOf, outputs, stats } = setup(
    { blocks: 14, contextLength: 64 },
    { scoredTokensMax: 3, speculationTokensMax: 6 },
  );
  core.receive({ type: "adapter", adapter: simulatedAdapter("x") });
  const scored = Array.from({ length: 12 }, (_, index) =>
    request(index + 1, {
      prompt: Array.from({ length: 1 + 3 * index }, (_, i) => i % vocabSize),
      adapter: index % 3 === 0 ? "x" : undefined,
      promptLogprobs: 1,
      maxTokens: 3,
    }),
  );
  const talks = [20, 21, 22].map((id) => request(id, { maxTokens: 18, stopIds: [] }));
  for (const one of [...talks, ...scored]) core.receive({ type: "add", request: one });
  await drain();
  for (const one of [...talks, ...scored]) {
    expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
  }
  for (const { id, prompt, adapter } of scored) {
    const expected = prompt.slice(1).map((token, i) => {
      const likeliest = simulatedToken(prompt.slice(0, i + 1), adapter, vocabSize);
      return { token, rank: token === likeliest ? 1 : vocabSize, top: [{ token: likeliest }] };
    });
    const [first, ...others] = outputs.get(id)!;
    expect(first!.promptLogprobs).toMatchObject(expected);
    expect(first!.cachedTokens).toBe(0);
    expect(others.every(({ promptLogprobs }) => promptLogprobs === undefined)).toBe(true);
  }
  const scoresOfSteps = runner.rowsRun.map(({ scores = 0 }) => scores);
  expect(Math.max(...scoresOfSteps)).toBeLessThanOrEqual(3);
  expect(stats()).toMatchObject({ blocksUsed: 0 });
  expect(stats()!.preemptions).toBeGreaterThan(0);
});

test("a thousand that wait are all answered as if alone, and one more is told when to come back", async () => {
  const { core, turn, drain, tokensOf, outputs, stats } = setup({ slots: 2 }, { waitingMax: 1000 });
  for (const digest of ["x", "y", "z"]) {
    core.receive({ type: "adapter", adapter: simulatedAdapter(digest) });
  }
  const adapters = [undefined, "x", "y", "z"];
  const all = Array.from({ length: 1001 }, (_, index) =>
    request(index + 1, { adapter: adapters[index % 4], maxTokens: 2, tenant: `t${index % 7}` }),
  );
  for (const one of all) core.receive({ type: "add", request: one });
  await turn();
  expect(stats().waiting).toBeGreaterThan(990);
  await drain();
  const refused = all.filter(({ id }) => outputs.get(id)?.[0]?.error);
  expect(refused).toHaveLength(1);
  expect(outputs.get(refused[0]!.id)![0]!.error).toMatchObject({
    code: expect.stringMatching(/server_is_overloaded|rate_limit_exceeded/),
    retryAfterMs: expect.any(Number),
  });
  for (const one of all.filter((other) => other !== refused[0])) {
    expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
  }
  expect(stats()).toMatchObject({ waiting: 0, running: 0, blocksUsed: 0 });
});

test("one row that cannot be computed fails alone and the others never notice", async () => {
  const { core, drain, tokensOf, outputs } = setup({ fails: (row) => row.sequenceId === 3 });
  const requests = [1, 2, 3, 4, 5, 6].map((id) => request(id));
  for (const one of requests) core.receive({ type: "add", request: one });
  await drain();
  expect(outputs.get(3)).toMatchObject([{ id: 3, error: { code: "internal_error" } }]);
  for (const one of requests.filter(({ id }) => id !== 3)) {
    expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
  }
});

test("a sequence for an adapter that nobody loaded fails, and its slot is free for others", async () => {
  const { core, runner, drain, outputs, stats } = setup({ slots: 1 });
  core.receive({ type: "adapter", adapter: simulatedAdapter("x") });
  core.receive({ type: "add", request: request(2, { adapter: "x" }) });
  await drain();
  core.receive({ type: "add", request: request(1, { adapter: "ghost" }) });
  await drain();
  expect(runner.loaded).toEqual([undefined, undefined]);
  expect(outputs.get(1)).toMatchObject([{ error: { code: "model_not_found" } }]);
  expect(stats().slots).toEqual([undefined]);
});

test("an adapter that is unloaded serves who already asked, then leaves its slot", async () => {
  const { runner, core, turn, drain, tokensOf, outputs, stats } = setup({ slots: 1 });
  const one = request(1, { adapter: "x" });
  core.receive({ type: "adapter", adapter: simulatedAdapter("x") });
  core.receive({ type: "add", request: one });
  await turn();
  core.receive({ type: "forget", digest: "x" });
  await drain();
  expect(tokensOf(1)).toEqual(simulatedContinuation({ ...one, vocabSize }));
  expect(stats().slots).toEqual([undefined]);
  expect(runner.loaded).toEqual([undefined, undefined]);
  core.receive({ type: "add", request: request(2, { adapter: "x" }) });
  await drain();
  expect(outputs.get(2)).toMatchObject([{ error: { code: "model_not_found" } }]);
});

test("a sequence that runs apart is in no call with others, and says the same", async () => {
  const { runner, core, drain, tokensOf } = setup();
  const calls: number[][] = [];
  const run = runner.run.bind(runner);
  runner.run = async (decode, prefill) => {
    calls.push([...decode, ...prefill].map((row) => row.sequenceId));
    return run(decode, prefill);
  };
  const requests = [
    request(1),
    request(2, { apart: true }),
    request(3),
    request(4, { apart: true }),
  ];
  for (const one of requests) core.receive({ type: "add", request: one });
  await drain();
  for (const one of requests) {
    expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
  }
  expect(calls.filter((ids) => ids.length > 1).flat()).not.toEqual(expect.arrayContaining([2]));
  expect(calls.some((ids) => ids.includes(1) && ids.includes(3))).toBe(true);
});

test("a cancelled sequence says nothing more and holds nothing after one turn", async () => {
  const { core, turn, outputs, stats } = setup();
  core.receive({ type: "add", request: request(1, { maxTokens: 40, stopIds: [] }) });
  await turn();
  await turn();
  const said = outputs.get(1)?.length;
  core.receive({ type: "cancel", id: 1 });
  await turn();
  expect(outputs.get(1)?.length).toBe(said);
  expect(stats()).toMatchObject({ running: 0, blocksUsed: 0 });
});

test("a prompt that another began with costs only its own part, and its client hears of that", async () => {
  const { runner, core, drain, outputs, tokensOf, stats } = setup();
  const shared = Array.from({ length: 11 }, (_, index) => index + 1);
  const first = request(1, { prompt: [...shared, 30] });
  const second = request(2, { prompt: [...shared, 31, 32] });
  core.receive({ type: "add", request: first });
  await drain();
  const before = runner.rowsRun.length;
  core.receive({ type: "add", request: second });
  await drain();
  expect(runner.rowsRun[before]).toMatchObject({ position: 8, tokens: [9, 10, 11, 31, 32] });
  const cached = (id: number) => outputs.get(id)?.map(({ cachedTokens }) => cachedTokens);
  expect(cached(1)?.slice(0, 2)).toEqual([0, undefined]);
  expect(cached(2)?.slice(0, 2)).toEqual([8, undefined]);
  expect(tokensOf(2)).toEqual(simulatedContinuation({ ...second, vocabSize }));
  expect(stats()).toMatchObject({ prefixTokensQueried: 25, prefixTokensHit: 8, blocksUsed: 0 });
});

test("an answer is found again by the question that continues it", async () => {
  const { core, drain, outputs, tokensOf } = setup();
  const first = request(1, { prompt: [5, 6, 7], maxTokens: 12, stopIds: [] });
  core.receive({ type: "add", request: first });
  await drain();
  const prompt = [...first.prompt, ...tokensOf(1), 9];
  core.receive({ type: "add", request: request(2, { prompt }) });
  await drain();
  // The last of fifteen tokens was said and never computed.
  expect(outputs.get(2)?.[0]?.cachedTokens).toBe(12);
});

test("of a prompt that another is still computing, only what is done is found", async () => {
  const { runner, core, turn, drain, tokensOf } = setup();
  const prompt = Array.from({ length: 20 }, (_, index) => index + 1);
  const other = request(2, { prompt: prompt.map((token, at) => (at < 9 ? token : token + 20)) });
  core.receive({ type: "add", request: request(1, { prompt }) });
  await turn();
  core.receive({ type: "add", request: other });
  await turn();
  expect(runner.rowsRun.map(({ sequenceId, position }) => [sequenceId, position])).toEqual([
    [1, 0],
    [1, 5],
    [2, 4],
  ]);
  await drain();
  expect(tokensOf(2)).toEqual(simulatedContinuation({ ...other, vocabSize }));
});

test("several choices of one prompt compute it once, though they come at the same time", async () => {
  const { runner, core, drain, outputs, tokensOf } = setup();
  const prompt = Array.from({ length: 18 }, (_, index) => index + 1);
  const choices = [1, 2, 3].map((id) => request(id, { prompt }));
  for (const choice of choices) core.receive({ type: "add", request: choice });
  await drain();
  const prefilled = runner.rowsRun.filter(({ position }) => position < prompt.length);
  expect(prefilled.reduce((sum, { tokens }) => sum + tokens.length, 0)).toBe(18 + 2 + 2);
  expect([1, 2, 3].map((id) => outputs.get(id)?.[0]?.cachedTokens)).toEqual([0, 16, 16]);
  for (const one of choices) {
    expect(tokensOf(one.id)).toEqual(simulatedContinuation({ ...one, vocabSize }));
  }
});

test("who waits for what another computes does not wait when that one leaves", async () => {
  const { core, turn, drain, tokensOf } = setup();
  const prompt = Array.from({ length: 18 }, (_, index) => index + 1);
  for (const id of [1, 2]) core.receive({ type: "add", request: request(id, { prompt }) });
  await turn();
  core.receive({ type: "cancel", id: 1 });
  await drain();
  expect(tokensOf(2)).toEqual(simulatedContinuation({ ...request(2, { prompt }), vocabSize }));
});

test("guesses that hold save steps, and the answer is the same with them and without", async () => {
  const said: Record<number, { tokens: number[]; steps: number }> = {};
  for (const speculationTokensMax of [0, 12]) {
    const { runner, core, drain, tokensOf, stats } = setup(
      { vocabSize: 2 },
      { speculationTokensMax },
    );
    core.receive({ type: "add", request: request(1, { maxTokens: 40, stopIds: [], prompt: [1] }) });
    await drain();
    said[speculationTokensMax] = { tokens: tokensOf(1), steps: runner.rowsRun.length };
    const { rows, guessed, held } = stats().speculation;
    expect([rows > 0, guessed > 0, held > 0]).toEqual(Array(3).fill(speculationTokensMax > 0));
    expect(runner.rowsRun.length + held).toBe(40);
  }
  expect(said[12]?.tokens).toEqual(said[0]?.tokens);
  expect(said[12]?.steps).toBeLessThan(40);
});

test("nothing is guessed while a step is full of sequences", async () => {
  const { runner, core, turn, stats } = setup({ vocabSize: 2 }, { speculationTokensMax: 6 });
  for (let id = 1; id <= 6; id++) {
    core.receive({ type: "add", request: request(id, { maxTokens: 30, stopIds: [] }) });
  }
  for (let i = 0; i < 12; i++) await turn();
  expect(stats().running).toBe(6);
  expect(runner.rowsRun.every((row) => row.samples <= 1)).toBe(true);
});

test.each([
  { who: "another tenant", rest: { tenant: "b" } },
  { who: "another adapter", rest: { adapter: "x" } },
])("$who finds nothing of it", async ({ rest }) => {
  const { core, drain, outputs } = setup();
  const prompt = Array.from({ length: 20 }, (_, index) => index + 1);
  core.receive({ type: "adapter", adapter: simulatedAdapter("x") });
  core.receive({ type: "add", request: request(1, { prompt }) });
  await drain();
  core.receive({ type: "add", request: request(2, { prompt, ...rest }) });
  core.receive({ type: "add", request: request(3, { prompt }) });
  await drain();
  expect(outputs.get(2)?.[0]?.cachedTokens).toBe(0);
  expect(outputs.get(3)?.[0]?.cachedTokens).toBe(16);
});

test("what a call computed that failed is not found again", async () => {
  const failing = new Set([1]);
  const { core, turn, drain, outputs } = setup({ fails: (row) => failing.has(row.sequenceId) });
  const prompt = Array.from({ length: 20 }, (_, index) => index + 1);
  failing.clear();
  core.receive({ type: "add", request: request(1, { prompt }) });
  await turn();
  await turn();
  failing.add(1);
  await drain();
  expect(outputs.get(1)).toMatchObject([{ error: { code: "internal_error" } }]);
  core.receive({ type: "add", request: request(2, { prompt }) });
  await drain();
  expect(outputs.get(2)?.[0]?.cachedTokens).toBe(0);
});

describe("choices of one request", () => {
  const prompt = Array.from({ length: 18 }, (_, index) => index + 1);
  const family = (ids: number[], rest: Partial<SequenceRequest> = {}) =>
    ids.map((id) => {
      const { sampling } = request(id);
      const drawn = { ...sampling, temperature: 1, stream: id };
      return request(id, { prompt, family: 7, sampling: drawn, stopIds: [], ...rest });
    });
  const said = async (requests: SequenceRequest[], own: Parameters<typeof setup>[2]) => {
    const harness = setup({ spread: 1, blocks: 60 }, {}, own);
    for (const one of requests) harness.core.receive({ type: "add", request: one });
    await harness.drain();
    const tokens = requests.map(({ id }) => harness.tokensOf(id));
    return { ...harness, tokens };
  };

  test("fork from one prompt without any prefix cache, and say what each would have said alone", async () => {
    const requests = family([1, 2, 3]);
    const { tokens, runner, outputs } = await said(requests, { prefixCache: false });
    const computed = runner.rowsRun.filter(({ position }) => position < prompt.length);
    expect(computed.reduce((sum, row) => sum + row.tokens.length, 0)).toBe(prompt.length);
    expect(new Set(tokens.map((one) => one.join())).size).toBe(3);
    for (const [index, one] of requests.entries()) {
      const alone = await said([{ ...one, family: undefined }], { prefixCache: false });
      expect(tokens[index]).toEqual(alone.tokens[0]);
    }
    expect([1, 2, 3].map((id) => outputs.get(id)?.[0]?.cachedTokens)).toEqual([0, 0, 0]);
  });

  test("share their prompt's blocks, and copy only the last one, which is half full", async () => {
    const { runner, core, turn, stats } = setup({ blocks: 60 }, {}, { prefixCache: false });
    const copies: number[] = [];
    runner.copyBlock = (from, to) => void copies.push(from, to);
    for (const one of family([1, 2, 3])) core.receive({ type: "add", request: one });
    for (let i = 0; i < 4; i++) await turn();
    expect(stats()).toMatchObject({ running: 3, blocksUsed: 5 });
    await turn();
    expect(stats()).toMatchObject({ running: 3, blocksUsed: 4 + 3 });
    expect(copies).toHaveLength(4);
  });

  test("go on when the one that computes their prompt leaves, before or after they fork", async () => {
    for (const turns of [1, 6]) {
      const { core, turn, drain, tokensOf, stats } = setup({ spread: 1 });
      const requests = family([1, 2, 3], { maxTokens: 9 });
      for (const one of requests) core.receive({ type: "add", request: one });
      for (let i = 0; i < turns; i++) await turn();
      core.receive({ type: "cancel", id: 1 });
      await drain();
      expect([2, 3].map((id) => tokensOf(id).length)).toEqual([9, 9]);
      expect(stats().blocksUsed).toBe(0);
    }
  });

  test("that cannot all run at once are computed in turns", async () => {
    const requests = family([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const { tokens } = await said(requests, { prefixCache: false });
    expect(tokens.map((one) => one.length)).toEqual(new Array(9).fill(6));
  });

  test("one whose first token cannot be chosen fails alone", async () => {
    const requests = family([1, 2, 3]).map((one) => {
      const isBad = one.id === 2;
      return isBad ? { ...one, sampling: { ...one.sampling, temperature: Number.NaN } } : one;
    });
    const { outputs, tokens } = await said(requests, { prefixCache: false });
    expect(outputs.get(2)).toMatchObject([{ error: { code: "internal_error" } }]);
    expect([tokens[0]?.length, tokens[2]?.length]).toEqual([6, 6]);
  });
});
