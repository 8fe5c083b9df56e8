/** The part of ONNX's protobuf schema that we write, its encoder, and what we read back of a graph. */
import protobuf from "protobufjs";
import { z } from "zod";

/** Element types of a tensor, by ONNX's numbers. */
export const elementType = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  float16: 10,
  bfloat16: 16,
} as const;
export type ElementType = keyof typeof elementType;

export type TensorProto = {
  name: string;
  dims: readonly number[];
  dataType: number;
  rawData?: Uint8Array;
  /** `location`, `offset` and `length` of bytes that live in another file. */
  externalData?: { key: string; value: string }[];
  /** 1 = the bytes live in another file. */
  dataLocation?: 1;
};

export type NodeProto = {
  name: string;
  opType: string;
  domain: string;
  input: readonly string[];
  output: readonly string[];
  attribute: AttributeProto[];
};

export type AttributeProto = { name: string; type: number } & (
  | { f: number }
  | { i: number }
  | { s: Uint8Array }
  | { ints: readonly number[] }
);

/** A dimension is a size, or a name for one that each call chooses. */
export type Dimension = number | string;

export type ValueInfoProto = {
  name: string;
  type: {
    tensorType: {
      elemType: number;
      shape: { dim: ({ dimValue: number } | { dimParam: string })[] };
    };
  };
};

export type ModelProto = {
  irVersion: number;
  producerName: string;
  opsetImport: { domain: string; version: number }[];
  graph: {
    name: string;
    node: NodeProto[];
    initializer: TensorProto[];
    input: ValueInfoProto[];
    output: ValueInfoProto[];
  };
};

/** The bytes of an `.onnx` file. */
export function encodeModel(model: ModelProto): Uint8Array {
  return modelType.encode(modelType.fromObject(model)).finish();
}

/** What an `.onnx` file says of bytes that live in another file, by the name of the weight. */
export function externalDataOf(bytes: Uint8Array): Map<string, { key: string; value: string }[]> {
  const { graph } = decodedModel.parse(decodePlain(bytes));
  return new Map(graph.initializer.map(({ name, externalData }) => [name, externalData]));
}

/**
 * The same graph with more said of its weights' bytes.
 * @param bytes   a graph that `encodeModel` made; fields that it does not write would be lost
 * @param entries by the name of the weight
 */
export function withExternalData(
  bytes: Uint8Array,
  entries: ReadonlyMap<string, readonly { key: string; value: string }[]>,
): Uint8Array {
  const model = modelType.decode(bytes) as unknown as {
    graph: { initializer: { name: string; externalData: { key: string; value: string }[] }[] };
  };
  for (const tensor of model.graph.initializer) {
    tensor.externalData.push(...(entries.get(tensor.name) ?? []));
  }
  return modelType.encode(modelType.fromObject(model)).finish();
}

/** A weight or constant of a graph that we wrote. */
export type StoredTensor = {
  name: string;
  type: ElementType | "other";
  dims: number[];
  sizeBytes: number;
  /** How the operator that takes it unpacks blocks; undefined when it takes plain numbers. */
  blocks: { bits: number; blockSize: number } | undefined;
};

/** The weights and constants of an `.onnx` file, without their bytes. */
export function decodeStored(bytes: Uint8Array): StoredTensor[] {
  const { graph } = decodedModel.parse(decodePlain(bytes));
  const blocksOf = new Map(
    graph.node.flatMap(({ input, attribute }) => {
      const number = (name: string) => attribute.find((one) => one.name === name)?.i;
      const [bits, blockSize] = [number("bits"), number("block_size")];
      if (bits === undefined || blockSize === undefined) return [];
      return input.map((name): [string, { bits: number; blockSize: number }] => [
        name,
        { bits, blockSize },
      ]);
    }),
  );
  return graph.initializer.map(({ name, dims, dataType, rawData, externalData }) => ({
    name,
    type: typeNames.get(dataType) ?? "other",
    dims,
    sizeBytes: Number(externalData.find(({ key }) => key === "length")?.value ?? rawData?.length),
    blocks: blocksOf.get(name),
  }));
}

function decodePlain(bytes: Uint8Array): unknown {
  return modelType.toObject(modelType.decode(bytes), { longs: Number, bytes: Uint8Array });
}

/**
 * Names, numbers and types as in onnx.proto3 of ONNX 1.17; fields that we never write are left out.
 * @see https://github.com/onnx/onnx/blob/v1.17.0/onnx/onnx.proto3
 */
const schema = {
  nested: {
    onnx: {
      nested: {
        ModelProto: {
          fields: {
            irVersion: { type: "int64", id: 1 },
            producerName: { type: "string", id: 2 },
            graph: { type: "GraphProto", id: 7 },
            opsetImport: { rule: "repeated", type: "OperatorSetIdProto", id: 8 },
          },
        },
        OperatorSetIdProto: {
          fields: { domain: { type: "string", id: 1 }, version: { type: "int64", id: 2 } },
        },
        GraphProto: {
          fields: {
            node: { rule: "repeated", type: "NodeProto", id: 1 },
            name: { type: "string", id: 2 },
            initializer: { rule: "repeated", type: "TensorProto", id: 5 },
            input: { rule: "repeated", type: "ValueInfoProto", id: 11 },
            output: { rule: "repeated", type: "ValueInfoProto", id: 12 },
          },
        },
        NodeProto: {
          fields: {
            input: { rule: "repeated", type: "string", id: 1 },
            output: { rule: "repeated", type: "string", id: 2 },
            name: { type: "string", id: 3 },
            opType: { type: "string", id: 4 },
            attribute: { rule: "repeated", type: "AttributeProto", id: 5 },
            domain: { type: "string", id: 7 },
          },
        },
        AttributeProto: {
          fields: {
            name: { type: "string", id: 1 },
            f: { type: "float", id: 2 },
            i: { type: "int64", id: 3 },
            s: { type: "bytes", id: 4 },
            ints: { rule: "repeated", type: "int64", id: 8 },
            type: { type: "int32", id: 20 },
          },
        },
        TensorProto: {
          fields: {
            dims: { rule: "repeated", type: "int64", id: 1 },
            dataType: { type: "int32", id: 2 },
            name: { type: "string", id: 8 },
            rawData: { type: "bytes", id: 9 },
            externalData: { rule: "repeated", type: "StringStringEntryProto", id: 13 },
            dataLocation: { type: "int32", id: 14 },
          },
        },
        StringStringEntryProto: {
          fields: { key: { type: "string", id: 1 }, value: { type: "string", id: 2 } },
        },
        ValueInfoProto: {
          fields: { name: { type: "string", id: 1 }, type: { type: "TypeProto", id: 2 } },
        },
        TypeProto: { fields: { tensorType: { type: "TypeProtoTensor", id: 1 } } },
        TypeProtoTensor: {
          fields: {
            elemType: { type: "int32", id: 1 },
            shape: { type: "TensorShapeProto", id: 2 },
          },
        },
        TensorShapeProto: {
          fields: { dim: { rule: "repeated", type: "Dimension", id: 1 } },
        },
        Dimension: {
          fields: { dimValue: { type: "int64", id: 1 }, dimParam: { type: "string", id: 2 } },
        },
      },
    },
  },
};

const modelType = protobuf.Root.fromJSON(schema).lookupType("onnx.ModelProto");

const typeNames = new Map<number, ElementType>(
  Object.entries(elementType).map(([name, number]) => [number, name as ElementType]),
);

const decodedModel = z.object({
  graph: z.object({
    node: z
      .array(
        z.object({
          input: z.array(z.string()).default([]),
          attribute: z.array(z.object({ name: z.string(), i: z.number().optional() })).default([]),
        }),
      )
      .default([]),
    initializer: z
      .array(
        z.object({
          name: z.string(),
          dims: z.array(z.number()).default([]),
          dataType: z.number(),
          rawData: z.instanceof(Uint8Array).optional(),
          externalData: z.array(z.object({ key: z.string(), value: z.string() })).default([]),
        }),
      )
      .default([]),
  }),
});
