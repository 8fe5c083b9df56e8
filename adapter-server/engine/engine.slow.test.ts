/** The engine in its worker thread, with a simulated model: streams, cancels, crashes. */
import { afterEach, expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import type { Engine, GenerateRequest, TokenBatch } from "./engine.ts";
import { startEngine } from "./engine.ts";
import type { SimulatedOptions } from "./simulated-runner.ts";
import { simulatedAdapter, simulatedContinuation } from "./simulated-runner.ts";

const vocabSize = 50;
/** A token that only a prompt can bring. */
const neverChosen = 777;
const limits = {
  stepTokensMax: 64,
  prefillChunkMax: 32,
  speculationTokensMax: 16,
  sequencesMax: 8,
  waitingMax: 4,
  waitMsMax: 1_000_000,
  slotWaitMsMax: 50,
  priorityAgeMs: 1000,
};
const faults: string[] = [];
let engine: Engine | undefined;

async function start(
  options: Omit<SimulatedOptions, "fails"> = {},
  waitingMax = 64,
): Promise<Engine> {
  faults.length = 0;
  const started = await startEngine({
    runner: {
      module: new URL("./simulated-runner.ts", import.meta.url).href,
      options: { vocabSize, contextLength: 4096, blocks: 2048, ...options },
    },
    limits: { ...limits, waitingMax },
    prefixCache: true,
    restartsMax: 3,
    downMs: 20,
    onFault: (message) => faults.push(message),
  });
  engine = started;
  return started;
}

afterEach(() => engine?.close());

function request(rest: Partial<GenerateRequest> = {}): GenerateRequest {
  return {
    prompt: [1, 2, 3],
    maxTokens: 20,
    sampling: { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1, seed: 0, stream: 0 },
    stopIds: [0],
    tenant: "a",
    ...rest,
  };
}

async function collect(batches: AsyncIterable<TokenBatch>) {
  const tokens: number[] = [];
  let last: TokenBatch | undefined;
  let adapter: string | undefined;
  for await (const batch of batches) {
    tokens.push(...batch.tokens);
    adapter ??= batch.adapter;
    last = batch;
  }
  return { tokens, finish: last?.finish, adapter };
}

test("many sequences stream at once, each as if alone, and tell which adapter answered", async () => {
  const engine = await start();
  for (const digest of ["x", "y", "z"]) engine.loadAdapter(simulatedAdapter(digest));
  const requests = [undefined, "x", "y", "z", "x", undefined, "z"].map((adapter, index) =>
    request({ adapter, prompt: [index, 5, 6] }),
  );
  const answers = await Promise.all(requests.map((one) => collect(engine.generate(one))));
  for (const [index, one] of requests.entries()) {
    expect(answers[index]?.tokens).toEqual(simulatedContinuation({ ...one, vocabSize }));
    expect(answers[index]?.adapter).toBe(one.adapter);
  }
});

test("choices of one request begin together and compute its prompt once; one that leaves leaves alone", async () => {
  const engine = await start({ stepMs: 1 });
  const asked = request({
    prompt: Array.from({ length: 30 }, (_, i) => i),
    maxTokens: 50,
    stopIds: [],
  });
  const choices = engine.generateEach(asked, 3);
  const firsts = await Promise.all(choices.map((choice) => choice.next()));
  // Nobody found anything cached, because nobody came later than the one that computed it.
  expect(firsts.map(({ value }) => value?.cachedTokens)).toEqual([0, 0, 0]);
  await choices[0]?.return();
  const rest = await Promise.all(choices.slice(1).map(collect));
  expect(rest.map(({ finish }) => finish)).toEqual(["length", "length"]);
  await until(() => engine.stats().blocksUsed === 0);
});

test("an answer that takes longer than its request gave is ended", async () => {
  const engine = await start({ stepMs: 5 });
  const late = collect(engine.generate(request({ maxTokens: 2000, stopIds: [], timeoutMs: 30 })));
  await expect(late).rejects.toMatchObject({ code: "deadline_exceeded" });
  await until(() => engine.stats().running === 0);
});

test("a reader that leaves, or a signal, frees the blocks", async () => {
  const engine = await start({ stepMs: 1 });
  for await (const _ of engine.generate(request({ maxTokens: 2000, stopIds: [] }))) break;
  const abort = new AbortController();
  const aborted = collect(
    engine.generate(request({ maxTokens: 2000, stopIds: [], signal: abort.signal })),
  );
  setTimeout(() => abort.abort(), 20);
  await expect(aborted).rejects.toMatchObject({ code: "request_cancelled" });
  await until(() => engine.stats().blocksUsed === 0 && engine.stats().running === 0);
});

test("a worker that dies fails what runs, comes back, and still knows its adapters", async () => {
  const engine = await start({ deadlyToken: 49, stepMs: 1, slots: 1 });
  engine.loadAdapter(simulatedAdapter("x"));
  const victim = collect(
    engine.generate(request({ maxTokens: 3000, stopIds: [], prompt: [1, 1] })),
  );
  const murder = collect(engine.generate(request({ prompt: [49] })));
  await expect(murder).rejects.toMatchObject({ code: "upstream_unavailable" });
  await expect(victim).rejects.toMatchObject({ code: "upstream_unavailable" });
  const one = request({ adapter: "x", prompt: [4, 4], maxTokens: 1 });
  expect((await collect(engine.generate(one))).tokens).toEqual(
    simulatedContinuation({ ...one, vocabSize }),
  );
  expect(engine.stats()).toMatchObject({ restarts: 1, ready: true });
  expect(faults).toContain("the engine's worker died");
});

test("an adapter is forgotten when its last sequence is done, and when the worker dies; then its memory is free", async () => {
  const engine = await start({ deadlyToken: neverChosen, stepMs: 1, slots: 1 });
  engine.loadAdapter(simulatedAdapter("x"));
  let isForgotten = false;
  for await (const _ of engine.generate(
    request({ adapter: "x", maxTokens: 2000, stopIds: [], prompt: [1, 1] }),
  )) {
    const forgotten = engine.unloadAdapter("x").then(() => {
      isForgotten = true;
    });
    // What comes after this was told after the worker heard of it.
    await collect(engine.generate(request({ prompt: [2, 2] })));
    expect(isForgotten).toBe(false);
    void forgotten;
    break;
  }
  await until(() => isForgotten);

  // Known again while it is being forgotten: the worker reads the new weights, and the old ones are free.
  engine.loadAdapter(simulatedAdapter("y"));
  const old = engine.unloadAdapter("y");
  engine.loadAdapter(simulatedAdapter("y"));
  await old;
  const one = request({ adapter: "y", prompt: [4, 4] });
  expect((await collect(engine.generate(one))).tokens).toEqual(
    simulatedContinuation({ ...one, vocabSize }),
  );

  const murder = collect(engine.generate(request({ prompt: [neverChosen] })));
  const last = engine.unloadAdapter("y");
  await expect(murder).rejects.toMatchObject({ code: "upstream_unavailable" });
  await last;
  await engine.unloadAdapter("never known");
});

test("a request that kills the engine is refused after two deaths, and its neighbours answer", async () => {
  const engine = await start({ deadlyToken: neverChosen, stepMs: 1 });
  const innocent = request({ prompt: [1, 1], maxTokens: 200, stopIds: [] });
  const murder = request({ prompt: [neverChosen] });
  // Everybody tries again as long as that may help.
  const retry = async (one: GenerateRequest) => {
    for (;;) {
      try {
        return await collect(engine.generate(one));
      } catch (error) {
        if (!(error instanceof HubError) || error.code !== "upstream_unavailable") throw error;
      }
    }
  };
  const [answer, refusal] = await Promise.allSettled([retry(innocent), retry(murder)]);
  expect(refusal).toMatchObject({ reason: { code: "request_quarantined" } });
  expect(answer).toMatchObject({
    value: { tokens: simulatedContinuation({ ...innocent, vocabSize }) },
  });
  expect(engine.stats()).toMatchObject({ restarts: 2, ready: true });
});

test("an engine that cannot be started again for a while is up again when it can", async () => {
  const failingStarts = new Int32Array(new SharedArrayBuffer(4));
  const engine = await start({ deadlyToken: neverChosen, failingStarts });
  engine.loadAdapter(simulatedAdapter("x"));
  engine.loadAdapter(simulatedAdapter("y"));
  failingStarts[0] = 6;
  await expect(collect(engine.generate(request({ prompt: [neverChosen] })))).rejects.toThrow();
  // Whether it is being started or left alone: nothing reads these weights.
  await engine.unloadAdapter("x");
  await until(() => faults.filter((fault) => fault.includes("died")).length > 3);
  await engine.unloadAdapter("y");
  await until(() => engine.stats().ready);
  const one = request();
  expect((await collect(engine.generate(one))).tokens).toEqual(
    simulatedContinuation({ ...one, vocabSize }),
  );
});

test("a full queue is refused and says so before the client waits", async () => {
  const engine = await start({ stepMs: 20 }, 2);
  const all = Array.from({ length: 14 }, () =>
    collect(engine.generate(request({ maxTokens: 5, stopIds: [] }))),
  );
  const settled = await Promise.allSettled(all);
  const refused = settled.filter((one) => one.status === "rejected");
  expect(refused.length).toBeGreaterThan(0);
  for (const one of refused) expect(one.reason).toMatchObject({ code: "server_is_overloaded" });
  expect(settled.length - refused.length).toBeGreaterThanOrEqual(2);
});

test("closing ends what still runs with a reason", async () => {
  const engine = await start({ stepMs: 1 });
  const running = collect(engine.generate(request({ maxTokens: 3000, stopIds: [] })));
  const told = expect(running).rejects.toMatchObject({ code: "shutting_down" });
  await until(() => engine.stats().running === 1);
  await engine.close();
  await told;
});

test("a model that cannot be loaded fails the start with its cause", async () => {
  await start();
  const broken = startEngine({
    runner: { module: new URL("./types.ts", import.meta.url).href, options: {} },
    limits,
    prefixCache: true,
    restartsMax: 3,
    downMs: 20,
    onFault: () => {},
  });
  await expect(broken).rejects.toThrow("could not be started");
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

test("an answer that was complete when the worker died is read to its end", async () => {
  const engine = await start({ deadlyToken: neverChosen });
  const one = request({ maxTokens: 30, stopIds: [] });
  const answer = engine.generate(one);
  const first = await answer.next();
  const said = first.value?.tokens ?? [];
  // What comes after this is told after all of the answer was.
  await collect(engine.generate(request({ prompt: [2, 2], maxTokens: 60, stopIds: [] })));
  const murder = collect(engine.generate(request({ prompt: [neverChosen] })));
  await expect(murder).rejects.toMatchObject({ code: "upstream_unavailable" });
  const { tokens, finish } = await collect(answer);
  expect([...said, ...tokens]).toEqual(simulatedContinuation({ ...one, vocabSize }));
  expect(finish).toBe("length");
});
