/** Writes ONNX graphs: nodes are collected, large weights go straight to a file that all graphs of a folder share. */
import { type FileHandle, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type AttributeProto,
  type Dimension,
  type ElementType,
  elementType,
  encodeModel,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from "./onnx-proto.ts";

/** An attribute: whole numbers are ints; a float is `{ float }`, because 1.0 and 1 look the same here. */
export type Attribute = number | string | readonly number[] | { float: number };

export const weightsFileName = "weights.bin";

/** Tensors up to this size are stored inside the graph file, where shapes can be inferred from them. */
const inlineBytesMax = 4096;
/** Offsets of stored tensors are multiples of a page, so that the runtime can map them. */
export const pageBytes = 4096;

export class OnnxGraph {
  readonly #nodes: NodeProto[] = [];
  readonly #initializers: TensorProto[] = [];
  readonly #inputs: ValueInfoProto[] = [];
  readonly #outputs: ValueInfoProto[] = [];
  readonly #names = new Set<string>();
  readonly #weights: WeightsFile | FedWeights;

  private constructor(weights: WeightsFile | FedWeights) {
    this.#weights = weights;
  }

  /**
   * Builds a graph in memory whose weights are inputs, so that one opened graph serves many layers.
   * @returns the graph, and what to feed for its weights
   */
  static async withFedWeights(
    build: (graph: OnnxGraph) => Promise<void>,
  ): Promise<{ model: Uint8Array; weights: FedWeights }> {
    const weights: FedWeights = new Map();
    const graph = new OnnxGraph(weights);
    await build(graph);
    return { model: graph.#encode(), weights };
  }

  /**
   * Writes graphs and their common `weights.bin` into a folder, and has all on disk when it returns.
   * @param graphs by their file names, with what adds nodes and weights; a weight that an earlier graph stored
   *   is not stored again
   */
  static async write(
    folder: string,
    graphs: readonly { name: string; build: (graph: OnnxGraph) => Promise<void> }[],
  ): Promise<void> {
    const file = await open(join(folder, weightsFileName), "w");
    try {
      const weights: WeightsFile = { file, bytes: 0, stored: new Map() };
      for (const { name, build } of graphs) {
        const graph = new OnnxGraph(weights);
        await build(graph);
        await writeFile(join(folder, name), graph.#encode(), { flush: true });
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }

  input(name: string, type: ElementType, shape: readonly Dimension[]): string {
    this.#inputs.push(valueInfo(name, type, shape));
    return name;
  }

  output(name: string, type: ElementType, shape: readonly Dimension[]): void {
    this.#outputs.push(valueInfo(name, type, shape));
  }

  /** Adds an operator of ONNX with one output, and returns the output's name. */
  op(
    opType: string,
    inputs: readonly string[],
    output: string,
    attributes: Record<string, Attribute> = {},
  ): string {
    this.node("", opType, inputs, [output], attributes);
    return output;
  }

  /** Adds an operator of ONNX Runtime's own domain with one output. */
  contrib(
    opType: string,
    inputs: readonly string[],
    output: string,
    attributes: Record<string, Attribute> = {},
  ): string {
    this.node("com.microsoft", opType, inputs, [output], attributes);
    return output;
  }

  /** Adds any operator. An output that is not wanted is an empty name. */
  node(
    domain: "" | "com.microsoft",
    opType: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Record<string, Attribute> = {},
  ): void {
    this.#nodes.push({
      name: `${outputs.find((name) => name !== "")}:${opType}`,
      opType,
      domain,
      input: inputs,
      output: outputs,
      attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
    });
  }

  /** A small constant of int64, made once for each name. */
  ints(
    name: string,
    values: readonly number[],
    shape: readonly number[] = [values.length],
  ): string {
    return this.#inline(
      name,
      "int64",
      shape,
      BigInt64Array.from(values.map((value) => BigInt(value))),
    );
  }

  /** A small constant of int32, made once for each name. */
  int32s(
    name: string,
    values: readonly number[],
    shape: readonly number[] = [values.length],
  ): string {
    return this.#inline(name, "int32", shape, Int32Array.from(values));
  }

  /** A small constant of float32, made once for each name. */
  floats(
    name: string,
    values: readonly number[],
    shape: readonly number[] = [values.length],
  ): string {
    return this.#inline(name, "float32", shape, Float32Array.from(values));
  }

  /** A small constant of uint8, made once for each name. */
  bytes(
    name: string,
    values: readonly number[],
    shape: readonly number[] = [values.length],
  ): string {
    return this.#inline(name, "uint8", shape, Uint8Array.from(values));
  }

  /**
   * Stores a weight. Its bytes are written before the call returns and not kept.
   * @param read asked for the bytes, unless they are stored already
   */
  async weight(
    name: string,
    type: ElementType,
    shape: readonly number[],
    read: () => ArrayBufferView | Promise<ArrayBufferView>,
  ): Promise<string> {
    return this.weightParts(name, type, shape, async (append) => append(await read()));
  }

  /** Stores a weight that comes in parts, in the order of its bytes. */
  async weightParts(
    name: string,
    type: ElementType,
    shape: readonly number[],
    write: (append: (part: ArrayBufferView) => Promise<void>) => Promise<void>,
  ): Promise<string> {
    this.#names.add(name);
    if (this.#weights instanceof Map) {
      this.input(name, type, shape);
      this.#weights.set(name, { shape, bytes: await collect(write, byteLength(type, shape)) });
      return name;
    }
    const { file, stored } = this.#weights;
    const known = stored.get(name);
    if (known) {
      this.#initializers.push(known);
      return name;
    }
    const start = Math.ceil(this.#weights.bytes / pageBytes) * pageBytes;
    const length = byteLength(type, shape);
    this.#weights.bytes = start + length;
    const tensor: TensorProto = {
      name,
      dims: shape,
      dataType: elementType[type],
      externalData: [
        { key: "location", value: weightsFileName },
        { key: "offset", value: String(start) },
        { key: "length", value: String(length) },
      ],
      dataLocation: 1,
    };
    stored.set(name, tensor);
    this.#initializers.push(tensor);
    let position = start;
    await write(async (part) => {
      const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
      await writeAll(file, bytes, position);
      position += bytes.length;
    });
    return name;
  }

  /** The bytes of a stored weight once more, by another name and shape. */
  alias(name: string, stored: string, shape: readonly number[]): string {
    const tensor = this.#initializers.find((one) => one.name === stored);
    if (!tensor) throw new Error(`no weight ${stored} is stored`);
    this.#initializers.push({ ...tensor, name, dims: shape });
    return name;
  }

  #encode(): Uint8Array {
    return encodeModel({
      irVersion: 10,
      producerName: "switchyard",
      opsetImport: [
        { domain: "", version: 21 },
        { domain: "com.microsoft", version: 1 },
      ],
      graph: {
        name: "decoder",
        node: this.#nodes,
        initializer: this.#initializers,
        input: this.#inputs,
        output: this.#outputs,
      },
    });
  }

  #inline(
    name: string,
    type: ElementType,
    shape: readonly number[],
    data: ArrayBufferView,
  ): string {
    if (this.#names.has(name)) return name;
    this.#names.add(name);
    if (data.byteLength > inlineBytesMax)
      throw new Error(`constant ${name} is too large to inline`);
    const rawData = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#initializers.push({ name, dims: shape, dataType: elementType[type], rawData });
    return name;
  }
}

/** What a weight's parts are, one behind the other. */
async function collect(
  write: (append: (part: ArrayBufferView) => Promise<void>) => Promise<void>,
  length: number,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let position = 0;
  await write(async (part) => {
    bytes.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), position);
    position += part.byteLength;
  });
  return bytes;
}

function byteLength(type: ElementType, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, bytesOf[type]);
}

/** Weights that are fed with every call, by name. */
type FedWeights = Map<string, { shape: readonly number[]; bytes: Uint8Array }>;

/** The file of weights, and what lies in it. */
type WeightsFile = { file: FileHandle; bytes: number; stored: Map<string, TensorProto> };

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const rest = Math.min(bytes.length - written, writeBytesMax);
    written += (await file.write(bytes, written, rest, position + written)).bytesWritten;
  }
}

function valueInfo(name: string, type: ElementType, shape: readonly Dimension[]): ValueInfoProto {
  const dim = shape.map((size) =>
    typeof size === "number" ? { dimValue: size } : { dimParam: size },
  );
  return { name, type: { tensorType: { elemType: elementType[type], shape: { dim } } } };
}

function attribute(name: string, value: Attribute): AttributeProto {
  if (typeof value === "number") return { name, i: value, type: attributeType.int };
  if (typeof value === "string") {
    return { name, s: new TextEncoder().encode(value), type: attributeType.string };
  }
  if ("float" in value) return { name, f: value.float, type: attributeType.float };
  return { name, ints: value, type: attributeType.ints };
}

const attributeType = { float: 1, int: 2, string: 3, ints: 7 };
const bytesOf: Record<ElementType, number> = {
  float32: 4,
  uint8: 1,
  int8: 1,
  int32: 4,
  int64: 8,
  float16: 2,
  bfloat16: 2,
};
/** One write call takes at most 2 GiB on Linux. */
const writeBytesMax = 1 << 30;
