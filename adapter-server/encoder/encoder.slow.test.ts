/** An encoder in its own thread: a tiny one against its definition, a real one against PyTorch, and hostile files. */
import { existsSync, readFileSync } from "node:fs";
import {
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  type TinyOptions,
  tinyStates,
  tinyWidth,
  writeTinyEncoder,
} from "../__fixtures__/tiny-encoder.ts";
import { createTokenizer } from "../models/tokenizer.ts";
import { type Encoder, openEncoder } from "./encoder.ts";
import { type ImportedEncoder, importEncoder } from "./import-encoder.ts";

const bytesMax = 2 ** 31 - 1;
const { signal } = new AbortController();
let dataDir: string;
const opened: Encoder[] = [];
const faults: unknown[] = [];

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "switchyard-encoder-"));
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
});
afterAll(() => rm(dataDir, { recursive: true, force: true }));

async function writeTiny(options: TinyOptions = {}): Promise<string> {
  const folder = await mkdtemp(join(dataDir, "export-"));
  await writeTinyEncoder(folder, options);
  return folder;
}

async function open(folder: string): Promise<{ encoder: Encoder; imported: ImportedEncoder }> {
  const imported = await importEncoder(folder, { dataDir, bytesMax });
  const limits = { requestsMax: 8, batchRowsMax: 4, batchTokensMax: 24 };
  const onFault = (message: string, cause: unknown) => faults.push({ message, cause });
  const encoder = await openEncoder({ graph: imported, limits, threads: 1, onFault });
  opened.push(encoder);
  return { encoder, imported };
}

const rows = [
  [2, 4, 3],
  [2, 5, 6, 7, 8, 4, 3],
  [2, 3],
  [2, 8, 8, 3],
  [2, 4, 5, 6, 7, 8, 3],
  [2, 1, 3],
];
const poolings = {
  mean_tokens: (states: number[][]) =>
    column(states, (values) => values.reduce((a, b) => a + b) / values.length),
  cls_token: (states: number[][]) => states[0]!,
  max_tokens: (states: number[][]) => column(states, (values) => Math.max(...values)),
  lasttoken: (states: number[][]) => states.at(-1)!,
};

test.each(Object.entries(poolings))(
  "%s is what the definition says, in batches of any lengths",
  async (pooling, define) => {
    const { encoder } = await open(await writeTiny({ pooling }));
    expect(encoder.width).toBe(tinyWidth);
    const vectors = await encoder.embed(rows, signal);
    for (const [i, row] of rows.entries()) expectClose(vectors[i]!, define(tinyStates(row)));
  },
);

test("requests that share a batch get their own, and whoever leaves or cannot be computed takes nobody along", async () => {
  const { encoder } = await open(await writeTiny());
  const leave = new AbortController();
  const left = encoder.embed(rows, leave.signal);
  // No row of the table has this number.
  const broken = encoder.embed([[2, 5000, 3]], signal);
  const others = rows.map((row) => encoder.embed([row], signal));
  leave.abort();
  await expect(left).rejects.toMatchObject({ code: "request_cancelled" });
  await expect(broken).rejects.toMatchObject({ code: "internal_error" });
  const vectors = await Promise.all(others);
  for (const [i, row] of rows.entries()) {
    expectClose(vectors[i]![0]!, poolings.mean_tokens(tinyStates(row)));
  }
  expect(faults.splice(0)).toHaveLength(1);
});

test("a text whose vector is not a number fails alone, and others in its batch have all of theirs", async () => {
  const brokenToken = 8;
  const { encoder } = await open(await writeTiny({ brokenToken }));
  const whole = rows.filter((row) => !row.includes(brokenToken));
  // What comes while it is computed is taken together.
  const first = encoder.embed([[2, 3]], signal);
  const broken = encoder.embed([[2, 4, brokenToken, 3]], signal);
  // Short ones that share its batch, and others that come behind that.
  const other = encoder.embed([...whole, ...whole], signal);
  await expect(broken).rejects.toMatchObject({ code: "internal_error" });
  await first;
  const vectors = await other;
  for (const [i, row] of [...whole, ...whole].entries()) {
    expectClose(vectors[i]!, poolings.mean_tokens(tinyStates(row)));
  }
  expect(faults.splice(0)).toHaveLength(1);
});

test("a thread that dies is started again, and again where its graph could not be opened for a while", async () => {
  const { encoder, imported } = await open(await writeTiny());
  const away = `${imported.graphPath}.away`;
  await rename(imported.graphPath, away);
  // No list of rows, which is a fault that nothing catches.
  const deadly = { length: 1 } as unknown as number[][];
  try {
    for (const asked of [deadly, rows]) {
      await expect(encoder.embed(asked, signal)).rejects.toMatchObject({
        code: "upstream_unavailable",
      });
    }
  } finally {
    await rename(away, imported.graphPath);
  }
  const [vector] = await encoder.embed([rows[0]!], signal);
  expectClose(vector!, poolings.mean_tokens(tinyStates(rows[0]!)));
  expect(faults.splice(0)).toHaveLength(2);
});

test("more requests than may wait are told to come back", async () => {
  const { encoder } = await open(await writeTiny());
  const many = Array.from({ length: 9 }, () => encoder.embed(rows, signal));
  const settled = await Promise.allSettled(many);
  const refused = settled.filter((one) => one.status === "rejected");
  expect(refused.map(({ reason }) => reason.code)).toEqual(["server_is_overloaded"]);
});

test("an encoder that was imported is served when its folder has gone", async () => {
  const folder = await writeTiny();
  const { digest } = await importEncoder(folder, { dataDir, bytesMax });
  const again = await importEncoder(folder, { dataDir, bytesMax });
  expect(again.digest).toBe(digest);
  await rm(folder, { recursive: true });
  const { encoder } = await open(again.folder);
  expectClose(
    (await encoder.embed([rows[0]!], signal))[0]!,
    poolings.mean_tokens(tinyStates(rows[0]!)),
  );
});

describe("is refused, and says why:", () => {
  const refused = async (folder: string, message: RegExp, max = bytesMax) => {
    const tried = importEncoder(folder, { dataDir, bytesMax: max });
    await expect(tried).rejects.toMatchObject({ code: "unsupported_model" });
    await expect(tried).rejects.toThrow(message);
  };
  /** Puts another path of the same length where the graph names its file of weights. */
  const redirect = async (folder: string, to: string) => {
    const path = join(folder, "model.onnx");
    const bytes = await readFile(path, "latin1");
    expect(to).toHaveLength("weights.bin".length);
    await writeFile(path, bytes.replaceAll("weights.bin", to), "latin1");
  };

  test.each(["../../a.bin", "/etc/passwd", "nowhere.bin", "./././././."])(
    "weights in %s",
    async (path) => {
      const folder = await writeTiny();
      await redirect(folder, path);
      await refused(folder, /keeps weights in/);
    },
  );

  test("weights behind a link that leaves the folder", async () => {
    const folder = await writeTiny();
    const elsewhere = await writeTiny();
    await symlink(join(elsewhere, "weights.bin"), join(folder, "linked1.bin"));
    await redirect(folder, "linked1.bin");
    await refused(folder, /keeps weights in 'linked1.bin'/);
  });

  test("operators of somebody's library", async () => {
    const folder = await writeTiny({
      strange: (graph) => graph.node("evil.ops" as "", "Run", ["embedded"], ["ran"]),
    });
    await refused(folder, /'evil.ops'/);
  });

  test("an input that an encoder has not", async () => {
    const folder = await writeTiny({
      strange: (graph) => {
        graph.input("pixel_values", "float32", ["rows", 3]);
      },
    });
    await refused(folder, /'pixel_values'/);
  });

  test("a step that is not computed, or a pooling", async () => {
    await refused(await writeTiny({ steps: ["Dense"] }), /'Dense'/);
    await refused(await writeTiny({ pooling: "weightedmean_tokens" }), /'weightedmean_tokens'/);
  });

  test("more bytes than are allowed", async () => {
    await refused(await writeTiny(), /ENCODER_BYTES_MAX/, 1000);
  });

  test("half a file, no file, and what is none", async () => {
    const half = await writeTiny();
    const path = join(half, "model.onnx");
    await truncate(path, Math.floor((await stat(path)).size / 2));
    await refused(half, /no ONNX model/);
    await writeFile(path, "");
    await refused(half, /no ONNX model/);
    await rm(path);
    await refused(half, /model.onnx/);
  });

  test("graphs within graphs without end", async () => {
    const folder = await writeTiny();
    await writeFile(join(folder, "model.onnx"), nested(3000));
    await refused(folder, /no ONNX model/);
  });

  test("a graph that lets padding change its vectors", async () => {
    const tried = open(await writeTiny({ heedsMask: false }));
    await expect(tried).rejects.toThrow(/attention_mask/);
  });

  test("a graph that the runtime cannot open", async () => {
    const folder = await writeTiny({
      strange: (graph) => graph.node("", "NoSuchOperator", ["embedded"], ["ran"]),
    });
    await expect(open(folder)).rejects.toMatchObject({ code: "unsupported_model" });
  });
});

const real = join(homedir(), ".cache/switchyard-fixtures/all-MiniLM-L6-v2");

test.skipIf(!existsSync(join(real, "reference.json")))(
  "all-MiniLM-L6-v2 makes PyTorch's vectors (skipped where __fixtures__/make.py did not export it)",
  async () => {
    const { encoder, imported } = await open(real);
    const tokenizer = createTokenizer(imported.tokenizer);
    const reference: { text: string; tokens: number; embedding: number[] }[] = JSON.parse(
      readFileSync(join(real, "reference.json"), "utf8"),
    );
    const tokens = reference.map(({ text }) => tokenizer.encode(text, { addSpecialTokens: true }));
    expect(tokens.map(({ length }) => length)).toEqual(reference.map((one) => one.tokens));
    const vectors = await encoder.embed(tokens, signal);
    for (const [i, { embedding }] of reference.entries()) {
      const length = Math.hypot(...vectors[i]!);
      expectClose(
        vectors[i]!.map((value) => value / length),
        embedding,
        1e-4,
      );
    }
  },
  60_000,
);

/** A model whose graph holds a node with a graph that holds a node, and so on. */
function nested(depth: number): Uint8Array {
  let graph = Buffer.alloc(0);
  for (let i = 0; i < depth; i++) graph = field(1, field(5, field(6, graph)));
  return field(7, graph);
}

/** One field of a protobuf message that has a length. */
function field(id: number, bytes: Buffer): Buffer<ArrayBuffer> {
  const length: number[] = [];
  for (let left = bytes.length; ; left = Math.floor(left / 128)) {
    length.push((left % 128) | (left > 127 ? 128 : 0));
    if (left < 128) break;
  }
  return Buffer.concat([Uint8Array.of((id << 3) | 2, ...length), bytes]);
}

function column(states: number[][], of: (values: number[]) => number): number[] {
  return states[0]!.map((_, i) => of(states.map((state) => state[i]!)));
}

function expectClose(ours: ArrayLike<number>, theirs: ArrayLike<number>, tolerance = 1e-5): void {
  expect(ours.length).toBe(theirs.length);
  for (let i = 0; i < ours.length; i++)
    expect(Math.abs(ours[i]! - theirs[i]!)).toBeLessThan(tolerance);
}
