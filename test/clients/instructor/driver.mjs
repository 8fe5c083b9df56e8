/** Instructor in each of its modes: objects of a schema, whole and as they grow. */
import { z } from "zod";
import { assert, check, models, thrownBy } from "./checks.mjs";
import { instructor } from "./connect.mjs";

const schema = z.object({ name: z.string(), age: z.number() });
const ask = (mode, model, more = {}) =>
  instructor(mode).chat.completions.create({
    model,
    messages: [{ role: "user", content: "Who?" }],
    response_model: { name: "Person", schema },
    max_retries: 0,
    ...more,
  });

for (const mode of ["TOOLS", "JSON_SCHEMA"]) {
  for (const model of models) {
    await check(`${mode} with ${model}: an object of a schema`, async () => {
      const { name, age } = await ask(mode, model);
      assert.deepEqual({ name, age }, { name: "Ada", age: 36 });
    });
    await check(`${mode} with ${model}: an object as it grows`, async () => {
      let last;
      for await (const partial of await ask(mode, model, { stream: true })) last = partial;
      assert.equal(last.name, "Ada");
      assert.equal(last.age, 36);
    });
  }
  await check(`${mode}: a model that is not there`, async () => {
    const error = await thrownBy(() => ask(mode, "no-such-model"));
    assert.match(String(error), /no-such-model/);
  });
}
