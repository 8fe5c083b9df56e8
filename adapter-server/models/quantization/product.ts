/** Products of plain matrices by ONNX Runtime, for what is measured once and belongs to no graph. */
import ort from "onnxruntime-node";
import { sessionOptions } from "../../engine/session-options.ts";
import { OnnxGraph } from "../onnx-graph.ts";

export type Product = {
  /**
   * `x·wᵀ`
   * @param x `[rows, width]`
   * @param w `[outputs, width]`
   * @returns `[rows, outputs]`
   */
  multiply(x: Float32Array, w: Float32Array, width: number): Promise<Float32Array>;
  close(): Promise<void>;
};

export async function openProduct(threads: number): Promise<Product> {
  const { model } = await OnnxGraph.withFedWeights(async (graph) => {
    graph.input("x", "float32", ["rows", "width"]);
    graph.input("w", "float32", ["outputs", "width"]);
    graph.op("Gemm", ["x", "w"], "y", { transB: 1 });
    graph.output("y", "float32", ["rows", "outputs"]);
  });
  const session = await ort.InferenceSession.create(model, await sessionOptions(threads));
  return {
    async multiply(x, w, width) {
      const matrix = (values: Float32Array) =>
        new ort.Tensor("float32", values, [values.length / width, width]);
      const { y } = await session.run({ x: matrix(x), w: matrix(w) });
      return y?.data as Float32Array;
    },
    close: () => session.release(),
  };
}
