/** How ONNX Runtime runs our graphs. */
import { readFile } from "node:fs/promises";
import type ort from "onnxruntime-node";

type SessionOptions = ort.InferenceSession.SessionOptions & {
  extra: { session: Record<string, string | Record<string, string>> };
};

/** @param threads of one native call */
export async function sessionOptions(threads: number): Promise<SessionOptions> {
  return {
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: "sequential",
    // Shapes change with every step; a pattern kept for each of them would only grow.
    enableMemPattern: false,
    logSeverityLevel: 3,
    extra: {
      session: {
        // Waking a thread takes longer than most nodes of a decode step, so threads wait that long for the next one
        // before they sleep; without end they would take the cores from everything else on the machine.
        intra_op: { allow_spinning: "1", spin_duration_us: "20" },
        // Attention weights far below the largest are denormal, and cost several times a normal product.
        set_denormal_as_zero: "1",
        // The other kernels take half as long again where both are exact, so they are asked for only there.
        x64quantprecision: (await sumsIn16Bits()) ? "1" : "0",
      },
    },
  };
}

/** Whether int8 kernels sum pairs of products in 16 bits and may overflow: on x64 without VNNI. */
async function sumsIn16Bits(): Promise<boolean> {
  if (process.arch !== "x64") return false;
  const cpu = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
  return !/\bavx(512)?_vnni\b/.test(cpu);
}
