/** What an ONNX file of somebody else asks for: its inputs and outputs, the files it reads, the operators it needs. */
import protobuf from "protobufjs";
import { HubError } from "../../sdk/protocol/errors.ts";

export type OnnxValue = { name: string; elementType: number; rank: number | undefined };

export type OnnxFacts = {
  inputs: OnnxValue[];
  outputs: OnnxValue[];
  /** Other files that weights lie in, as the file writes them: anything at all. */
  dataFiles: string[];
};

/**
 * Looks everywhere a weight or an operator can stand: graphs within nodes and functions included.
 * @throws HubError `unsupported_model` when it is no ONNX model, or needs operators that are not the runtime's own
 */
export function readOnnxFacts(bytes: Uint8Array): OnnxFacts {
  const model = decode(bytes);
  if (!model.graph || model.graph.node.length === 0) throw notOnnx();
  const found: Found = { domains: new Set(), dataFiles: new Set() };
  visitGraph(model.graph, found);
  for (const one of model.functions) visitNodes(one.node, found);
  const strange = [...found.domains].find((domain) => !runtimeDomains.has(domain));
  if (strange !== undefined) {
    throw new HubError(
      "unsupported_model",
      `The ONNX model needs operators of the domain '${strange.slice(0, 100)}', which are not the runtime's own.`,
    );
  }
  const weights = new Set(model.graph.initializer.map(({ name }) => name));
  return {
    // Old files list their weights as inputs.
    inputs: model.graph.input.filter(({ name }) => !weights.has(name)).map(toValue),
    outputs: model.graph.output.map(toValue),
    dataFiles: [...found.dataFiles],
  };
}

type Found = { domains: Set<string>; dataFiles: Set<string> };

function decode(bytes: Uint8Array): Model {
  try {
    return modelType.decode(bytes) as unknown as Model;
  } catch (cause) {
    // Bytes that end early, and graphs nested without end.
    throw notOnnx(cause);
  }
}

function visitGraph(graph: Graph, found: Found): void {
  for (const tensor of graph.initializer) visitTensor(tensor, found);
  for (const { values, indices } of graph.sparseInitializer) {
    for (const tensor of [values, indices]) if (tensor) visitTensor(tensor, found);
  }
  visitNodes(graph.node, found);
}

function visitNodes(nodes: readonly Node[], found: Found): void {
  for (const { domain, attribute } of nodes) {
    found.domains.add(domain);
    for (const { t, g, tensors, graphs } of attribute) {
      for (const tensor of t ? [t, ...tensors] : tensors) visitTensor(tensor, found);
      for (const graph of g ? [g, ...graphs] : graphs) visitGraph(graph, found);
    }
  }
}

function visitTensor({ externalData }: Tensor, { dataFiles }: Found): void {
  for (const { key, value } of externalData) if (key === "location") dataFiles.add(value);
}

function toValue({ name, type }: ValueInfo): OnnxValue {
  const shape = type?.tensorType?.shape;
  return { name, elementType: type?.tensorType?.elemType ?? 0, rank: shape?.dim.length };
}

function notOnnx(cause?: unknown): HubError {
  return new HubError("unsupported_model", "The file is no ONNX model, or a part of one.", {
    cause,
  });
}

/** Operators of ONNX, and those that ONNX Runtime itself adds; anything else would be somebody's library. */
const runtimeDomains: ReadonlySet<string> = new Set(["", "ai.onnx", "com.microsoft"]);

type Tensor = { name: string; externalData: { key: string; value: string }[] };
type Attribute = { t: Tensor | null; g: Graph | null; tensors: Tensor[]; graphs: Graph[] };
type Node = { domain: string; attribute: Attribute[] };
type ValueInfo = {
  name: string;
  type: { tensorType: { elemType: number; shape: { dim: unknown[] } | null } | null } | null;
};
type Graph = {
  node: Node[];
  initializer: Tensor[];
  sparseInitializer: { values: Tensor | null; indices: Tensor | null }[];
  input: ValueInfo[];
  output: ValueInfo[];
};
type Model = { graph: Graph | null; functions: { node: Node[] }[] };

const one = (type: string, id: number) => ({ type, id });
const many = (type: string, id: number) => ({ rule: "repeated" as const, type, id });

/** @see https://github.com/onnx/onnx/blob/v1.17.0/onnx/onnx.proto3 */
const schema = {
  nested: {
    Model: { fields: { graph: one("Graph", 7), functions: many("Function", 25) } },
    Function: { fields: { node: many("Node", 7) } },
    Graph: {
      fields: {
        node: many("Node", 1),
        initializer: many("Tensor", 5),
        input: many("ValueInfo", 11),
        output: many("ValueInfo", 12),
        sparseInitializer: many("SparseTensor", 15),
      },
    },
    Node: { fields: { attribute: many("Attribute", 5), domain: one("string", 7) } },
    Attribute: {
      fields: {
        t: one("Tensor", 5),
        g: one("Graph", 6),
        tensors: many("Tensor", 10),
        graphs: many("Graph", 11),
      },
    },
    SparseTensor: { fields: { values: one("Tensor", 1), indices: one("Tensor", 2) } },
    Tensor: { fields: { name: one("string", 8), externalData: many("Entry", 13) } },
    Entry: { fields: { key: one("string", 1), value: one("string", 2) } },
    ValueInfo: { fields: { name: one("string", 1), type: one("Type", 2) } },
    Type: { fields: { tensorType: one("TensorType", 1) } },
    TensorType: { fields: { elemType: one("int32", 1), shape: one("Shape", 2) } },
    Shape: { fields: { dim: many("Dimension", 1) } },
    Dimension: { fields: {} },
  },
};
const modelType = protobuf.Root.fromJSON(schema).lookupType("Model");
