/** Two projects: `unit` beside the code, quick; `system` spans folders and starts real servers. */
import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

const common = {
  testTimeout: 60_000,
  hookTimeout: 120_000,
  pool: "forks" as const,
  // A shared machine may stop for a moment: what passes the second time is named as flaky at the end of the run.
  retry: process.env.CI ? 1 : 0,
};

/** On two cores the default is one worker, which leaves the other idle while files load. */
const unitWorkers = Math.max(2, availableParallelism() - 1);

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...common,
          name: "unit",
          maxWorkers: unitWorkers,
          // Half the time goes into loading the same modules anew for each file. What opens ONNX Runtime changes its
          // thread's arithmetic (denormals become zero) and is a `.slow` test, with a process of its own.
          isolate: false,
          include: [
            "{gateway,adapter-server,registry,evals,sdk,deploy}/**/*.test.ts",
            "test/architecture.test.ts",
          ],
          exclude: ["**/*.slow.test.ts", "**/node_modules/**"],
        },
      },
      {
        test: {
          ...common,
          name: "system",
          include: ["test/**/*.test.ts", "**/*.slow.test.ts"],
          exclude: ["test/architecture.test.ts", "**/node_modules/**"],
          testTimeout: 300_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
