/** A checkpoint whose matrices are quantized: read as if it held plain ones, so that nobody else has to know. */
import type { Checkpoint } from "../checkpoint.ts";
import type { WeightFiles } from "../model-source.ts";
import {
  dequantizeRows,
  type MatrixSize,
  type PackedLayout,
  type PackedMatrix,
  type PartReader,
  refuse,
} from "./packed-matrix.ts";

type Stored = { module: string; size: MatrixSize };

/**
 * Each quantized matrix has its plain name, `….weight`, beside tensors that are stored as they are. One
 * packed matrix is kept at a time: rows are read in order, some at a time, and every file once.
 */
export class QuantizedCheckpoint implements WeightFiles {
  readonly #files: Checkpoint;
  readonly #layout: PackedLayout;
  readonly #matrices: ReadonlyMap<string, Stored>;
  readonly #names: readonly string[];
  #loaded: { name: string; matrix: Promise<PackedMatrix> } | undefined;

  private constructor(
    files: Checkpoint,
    layout: PackedLayout,
    { matrices, names }: { matrices: ReadonlyMap<string, Stored>; names: readonly string[] },
  ) {
    this.#files = files;
    this.#layout = layout;
    this.#matrices = matrices;
    this.#names = names;
  }

  /**
   * Finds the quantized matrices and checks the shapes of all their tensors.
   * @param files closed when this fails
   * @throws HubError `unsupported_model` that names the tensor
   */
  static async open(files: Checkpoint, layout: PackedLayout): Promise<QuantizedCheckpoint> {
    try {
      return new QuantizedCheckpoint(files, layout, await findMatrices(files, layout));
    } catch (error) {
      await files.close();
      throw error;
    }
  }

  names(): string[] {
    return [...this.#names];
  }

  dtype(name: string): string {
    return this.#matrices.has(name) ? "F32" : this.#files.dtype(name);
  }

  expectShape(name: string, shape: readonly number[]): void {
    const stored = this.#matrices.get(name);
    if (!stored) {
      this.#files.expectShape(name, shape);
      return;
    }
    const { out, in: columns } = stored.size;
    if (shape.length !== 2 || out !== shape[0] || columns !== shape[1]) {
      refuse(
        `Tensor '${name}' is stored as ${stored.module}${this.#layout.marker} of shape [${out},${columns}]; the config asks for [${shape}].`,
      );
    }
  }

  async read(name: string, from = 0, to?: number): Promise<Float32Array> {
    const stored = this.#matrices.get(name);
    if (!stored) return this.#files.read(name, from, to);
    return dequantizeRows(await this.#load(name, stored), from, to ?? stored.size.out);
  }

  async readStored(name: string, from = 0, to?: number): Promise<Uint8Array> {
    if (!this.#matrices.has(name)) return this.#files.readStored(name, from, to);
    return new Uint8Array((await this.read(name, from, to)).buffer);
  }

  close(): Promise<void> {
    return this.#files.close();
  }

  #load(name: string, { module, size }: Stored): Promise<PackedMatrix> {
    if (this.#loaded?.name !== name) {
      const matrix = this.#layout.load(partsOf(this.#files, module), size);
      this.#loaded = { name, matrix };
    }
    return this.#loaded.matrix;
  }
}

async function findMatrices(files: Checkpoint, layout: PackedLayout) {
  const all = files.names();
  const modules = all.flatMap((name) =>
    name.endsWith(layout.marker) ? [name.slice(0, -layout.marker.length)] : [],
  );
  const matrices = new Map<string, Stored>();
  const parts = new Set<string>();
  for (const module of modules) {
    const name = `${module}.weight`;
    if (files.has(name))
      refuse(`Tensor '${name}' is stored twice, plain and as '${module}${layout.marker}'.`);
    const size = layout.sizeOf(partsOf(files, module));
    if (!(size.out > 0 && size.in > 0)) refuse(`Tensor '${module}${layout.marker}' is empty.`);
    for (const part of layout.partsOf(size)) {
      if (part.optional && !files.has(`${module}${part.ending}`)) continue;
      files.expectStored(`${module}${part.ending}`, part);
      parts.add(`${module}${part.ending}`);
    }
    matrices.set(name, { module, size });
    if (await isIdleBias(files, module, size)) parts.add(`${module}.bias`);
  }
  return { matrices, names: [...all.filter((name) => !parts.has(name)), ...matrices.keys()] };
}

/** Some quantizers give every matrix a bias, of zeros where the model has none. */
async function isIdleBias(
  files: Checkpoint,
  module: string,
  { out }: MatrixSize,
): Promise<boolean> {
  const name = `${module}.bias`;
  if (!files.has(name)) return false;
  files.expectShape(name, [out]);
  return (await files.read(name)).every((value) => value === 0);
}

function partsOf(files: Checkpoint, module: string): PartReader {
  return {
    refuse: (problem) => refuse(`Matrix '${module}': ${problem}.`),
    has: (ending) => files.has(`${module}${ending}`),
    shape: (ending) => files.shape(`${module}${ending}`),
    async words(ending) {
      return new Uint32Array((await files.readStored(`${module}${ending}`)).buffer);
    },
    async numbers(ending) {
      const name = `${module}${ending}`;
      const values = await files.read(name);
      if (!values.every(Number.isFinite))
        refuse(`Tensor '${name}' has values that are no numbers.`);
      return values;
    },
  };
}
