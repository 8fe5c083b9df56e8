/** Much policy against little: keys, projects and budgets are looked up and counted, and never walked through. */
import { resultOf } from "../../engine/result.ts";
import { bearer, chatAt } from "../setting.ts";
import { crowd, takeTurns } from "../turns.ts";
import type { Lane } from "./table.ts";

const budgetsDeep = 50;
/** Within a tenth. */
const target = 0.9;

export const keys: Lane = async function* (setting) {
  const shape = {
    keys: setting.full(100_000, 500),
    projects: setting.full(1000, 10),
    budgetsDeep,
  };
  setting.tell(`writing down ${shape.keys} keys of ${shape.projects} projects`);
  const much = await setting.policy(shape);
  const little = await setting.policy();
  // As many counters as there are budgets, and buckets as there are limits, so that none is forgotten.
  const most = 4 * (shape.keys + budgetsDeep * shape.projects);
  const metering = { budgetCountersMax: most, limitBucketsMax: most };
  const many = await setting.openGateway({ policy: much, metering });
  const one = await setting.openGateway({ policy: little });
  try {
    setting.tell("each key once, so that its budgets are known");
    const asked = chatAt(many.url, {});
    const values = much.keys;
    await setting.load({ asked, keys: { values, take: "once" }, concurrency: crowd, seconds: 600 });
    const turns = await takeTurns(
      setting,
      [
        {
          name: "many",
          order: { asked, keys: { values, take: "drawn" as const } },
          processorMs: many.processorMs,
        },
        {
          name: "one",
          order: { asked: chatAt(one.url, bearer(little.governedKey)) },
          processorMs: one.processorMs,
        },
      ],
      { rounds: setting.full(7, 1), seconds: setting.full(4, 0.5), concurrency: crowd },
    );
    const of = (name: "many" | "one") =>
      (turns.get(name) ?? []).map(({ perCoreSecond }) => perCoreSecond);
    yield resultOf({
      name: `${shape.keys} keys, ${shape.projects} projects, ${budgetsDeep} budgets deep, against one`,
      unit: "1/s of one core",
      ours: of("many"),
      peer: of("one"),
      target,
      notes: [
        `resident: ${many.residentMb().toFixed(0)} MB against ${one.residentMb().toFixed(0)} MB`,
      ],
    });
  } finally {
    await many.stop();
    await one.stop();
  }
};
