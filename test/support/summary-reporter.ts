/** Ends a run by naming what was skipped, what passed only when it was tried again, and what failed; then the counts. */
import { relative } from "node:path";
import type { Reporter, SerializedError, TestCase, TestModule } from "vitest/node";

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const skipped = tests.filter((test) => test.result().state === "skipped");
    const failed = tests.filter((test) => test.result().state === "failed");
    const passed = tests.filter((test) => test.result().state === "passed");
    // A file that fails to load has no tests in it, and is a failure all the same; so is a hook that throws.
    const broken = modules.filter(
      (module) => module.state() === "failed" && !failed.some((test) => test.module === module),
    );

    for (const test of skipped) console.log(`skipped ${title(test)}`);
    for (const test of passed.filter((test) => test.diagnostic()?.flaky))
      console.log(`flaky ${title(test)}: ${firstLine(test.result().errors)}`);
    for (const test of failed)
      console.log(`FAILED ${title(test)}: ${firstLine(test.result().errors)}`);
    for (const module of broken)
      console.log(`FAILED ${file(module)}: ${firstLine(module.errors())}`);
    for (const error of unhandled) console.log(`FAILED outside of any test: ${firstLine([error])}`);

    const failures = failed.length + broken.length + unhandled.length;
    const counts = [`${passed.length} passed`, `${failures} failed`];
    if (skipped.length > 0) counts.push(`${skipped.length} skipped`);
    console.log(counts.join(", "));
  }
}

function title(test: TestCase): string {
  return `${file(test.module)}: ${test.fullName}`;
}

function file(module: TestModule): string {
  return relative(module.project.config.root, module.moduleId);
}

function firstLine(errors: readonly { message: string }[] | undefined): string {
  return errors?.[0]?.message.split("\n", 1)[0] ?? "no error was reported";
}
