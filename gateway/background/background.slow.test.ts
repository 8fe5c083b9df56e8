/** Responses that run in the background, driven by the official client over a real database. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { eventually } from "../../test/support/api.ts";
import { type KeptGateway, openKeptGateway } from "../../test/support/kept-gateway.ts";
import { openRunStore } from "./store.ts";

let kept: KeptGateway;
let says: string;
beforeAll(async () => {
  kept = await openKeptGateway({
    answer: () => says,
    deltaDelayMs: 5,
    faults: ["stall:4", "never", "context", "error-event:3", "failed", "status:429"],
    limits: {
      backgroundPollMs: 50,
      backgroundFlushMs: 20,
      backgroundLeaseMs: 2_000,
      backgroundRunsPerProjectMax: 3,
      backgroundRunsMax: 4,
      backgroundFollowersPerProjectMax: 20,
      backgroundEventsBytesMax: 100_000,
    },
  });
});
afterAll(() => kept.close());
beforeEach(() => {
  says = "It is done and well.";
});

const background = true;
const input = "Think about it.";
const until = async (id: string, status: string) => {
  const { responses } = kept.client();
  return eventually(`${id} to be ${status}`, async () => {
    const response = await responses.retrieve(id);
    return response.status === status ? response : undefined;
  });
};

test.each(["gpt-test", "gpt-passing"])(
  "%s runs a response that nobody waits for, and it is read when it is done",
  async (model) => {
    const { responses } = kept.client();
    const queued = await responses.create({ model, input, background, metadata: { job: "7" } });
    expect(queued).toMatchObject({
      id: expect.stringMatching(/^resp_/),
      status: "queued",
      background: true,
      output: [],
      usage: null,
      metadata: { job: "7" },
    });
    const done = await until(queued.id, "completed");
    expect(done).toMatchObject({
      id: queued.id,
      background: true,
      store: true,
      output_text: says,
      usage: { output_tokens: 5 },
    });
    expect(kept.emulator.requests.at(-1)?.body).not.toHaveProperty("background");
    const next = await responses.create({
      model,
      input: "And now?",
      previous_response_id: done.id,
    });
    expect(next).toMatchObject({ status: "completed", previous_response_id: done.id });
    expect((await responses.inputItems.list(queued.id)).data).toMatchObject([
      { content: [{ text: input }] },
    ]);
    // It was finished, so there is nothing to cancel, and no stream of it.
    expect(await responses.cancel(queued.id)).toMatchObject({ status: "completed" });
    await expect(responses.retrieve(queued.id, { stream: true })).rejects.toMatchObject({
      status: 400,
      param: "stream",
    });
  },
);

test.each(["gpt-test", "gpt-passing"])(
  "%s streams in the background: followed, left, and followed again from any number",
  async (model) => {
    const { responses } = kept.client();
    const stream = await responses.create({ model, input, background, stream: true });
    let id = "";
    let left = -1;
    for await (const event of stream) {
      if (event.type === "response.created") id = event.response.id;
      left = event.sequence_number;
      if (left === 4) break;
    }
    const rest: number[] = [];
    let final: unknown;
    for await (const event of await responses.retrieve(id, {
      stream: true,
      starting_after: left,
    })) {
      rest.push(event.sequence_number);
      if (event.type === "response.completed") final = event.response;
    }
    expect(rest).toEqual(rest.map((_, index) => left + 1 + index));
    expect(final).toMatchObject({ id, background: true, status: "completed" });

    const again = responses.stream({ response_id: id });
    const types: string[] = [];
    const ids = new Set<string>();
    for await (const event of again) {
      types.push(event.type);
      if ("response" in event) ids.add(event.response.id);
    }
    expect(types.slice(0, 3)).toEqual([
      "response.created",
      "response.queued",
      "response.in_progress",
    ]);
    expect(types.at(-1)).toBe("response.completed");
    expect([...ids]).toEqual([id]);
    expect((await again.finalResponse()).output_text).toBe(says);
    expect(await responses.retrieve(id)).toMatchObject({ status: "completed", output_text: says });
  },
);

test("what was said in a conversation is added to it when the response is done", async () => {
  const { conversations, responses } = kept.client();
  const { id: conversation } = await conversations.create({});
  const queued = await responses.create({ model: "gpt-test", conversation, input, background });
  expect(queued.conversation).toEqual({ id: conversation });
  await until(queued.id, "completed");
  const { data } = await conversations.items.list(conversation, { order: "asc" });
  expect(data).toMatchObject([
    { role: "user", content: [{ text: input }] },
    { role: "assistant", content: [{ text: says }] },
  ]);
});

test.each([
  ["context", "server_error"],
  ["context-passing", "server_error"],
  ["error-event", "server_error"],
  ["failed-passing", "server_error"],
  ["status", "rate_limit_exceeded"],
])("what fails upstream (%s) has failed, and its stream ends so", async (model, code) => {
  const { responses } = kept.client();
  const stream = await responses.create({ model, input, background, stream: true });
  const told: string[] = [];
  let id = "";
  const reading = async () => {
    for await (const event of stream) {
      told.push(event.type);
      if (event.type === "response.created") id = event.response.id;
    }
  };
  await expect(reading()).rejects.toMatchObject({ code: expect.any(String) });
  expect(told.slice(0, 2)).toEqual(["response.created", "response.queued"]);
  const failed = { id, status: "failed", error: { code, message: expect.any(String) } };
  expect(await until(id, "failed")).toMatchObject(failed);
});

test("what fails before it says anything has failed", async () => {
  const { responses } = kept.client();
  const queued = await responses.create({ model: "status", input, background });
  expect(await until(queued.id, "failed")).toMatchObject({
    id: queued.id,
    error: { code: "rate_limit_exceeded", message: expect.any(String) },
    output: [],
  });
});

test("a response is cancelled, from another process too, and stays so", async () => {
  const { responses } = kept.client();
  const another = kept.client("acme", await kept.another()).responses;
  for (const [model, through] of [
    ["never", responses],
    ["stall", another],
  ] as const) {
    const aborts = kept.emulator.aborts.length;
    const stream = await responses.create({ model, input, background, stream: true });
    const seen: string[] = [];
    let id = "";
    for await (const event of stream) {
      if (event.type === "response.created") id = event.response.id;
      seen.push(event.type);
      if (event.type !== "response.in_progress" && model === "stall") continue;
      if (event.type === "response.queued" || event.type === "response.in_progress") {
        await until(id, "in_progress");
        await eventually("the upstream to be asked", async () =>
          kept.emulator.requests.at(-1)?.body.model === "gpt-test" ? true : undefined,
        );
        expect(await another.retrieve(id)).toMatchObject({ status: "in_progress" });
        expect(await through.cancel(id)).toMatchObject({ id, status: "cancelled" });
      }
    }
    expect(seen).not.toContain("response.completed");
    await eventually("the upstream to be left", async () =>
      kept.emulator.aborts.length > aborts ? true : undefined,
    );
    expect(await responses.cancel(id)).toMatchObject({ id, status: "cancelled", error: null });
    expect(await another.retrieve(id)).toMatchObject({ status: "cancelled" });
  }
});

test("a response that runs can be deleted, and is not continued before it is done", async () => {
  const { responses } = kept.client();
  const { id } = await responses.create({ model: "never", input, background });
  await expect(
    responses.create({ model: "gpt-test", input, previous_response_id: id }),
  ).rejects.toMatchObject({ status: 400, param: "previous_response_id" });
  const aborts = kept.emulator.aborts.length;
  await responses.delete(id);
  await eventually("the upstream to be left", async () =>
    kept.emulator.aborts.length > aborts ? true : undefined,
  );
  await expect(responses.retrieve(id)).rejects.toMatchObject({ status: 404 });
});

test("an answer with more events than are kept fails", async () => {
  says = "word ".repeat(1_000);
  const { responses } = kept.client();
  const { id } = await responses
    .create({ model: "gpt-test", input, background, stream: true })
    .asResponse()
    .then(async (response) => {
      const text = await response.text();
      return JSON.parse(/data: (.*)/.exec(text)?.[1] ?? "").response as { id: string };
    });
  expect(await responses.retrieve(id)).toMatchObject({
    status: "failed",
    error: { message: expect.stringContaining("larger than this gateway keeps") },
  });
});

test("no more run at one time than may, of a project and of all", async () => {
  const [acme, other] = [kept.client().responses, kept.client("other").responses];
  const create = (responses: typeof acme) =>
    responses.create({ model: "never", input, background });
  const running = [await create(acme), await create(acme), await create(acme)];
  await expect(create(acme)).rejects.toMatchObject({ status: 429, code: "rate_limit_exceeded" });
  const theirs = await create(other);
  await expect(create(other)).rejects.toMatchObject({
    status: 503,
    code: "server_is_overloaded",
  });
  for (const { id } of running) await acme.cancel(id);
  await other.cancel(theirs.id);
  const { id } = await acme.create({ model: "gpt-test", input, background });
  await until(id, "completed");
});

test("a project follows no more streams at one time than it may, and who leaves makes room", async () => {
  const { responses } = kept.client("other");
  const begun = await responses
    .create({ model: "never", input, background, stream: true })
    .asResponse();
  const reader = begun.body?.getReader();
  const first = new TextDecoder().decode((await reader?.read())?.value);
  const id = /"id":"(resp_[^"]+)"/.exec(first)?.[1] ?? "";
  const follow = () => responses.retrieve(id, { stream: true }).asResponse();
  const followers = await Promise.all(Array.from({ length: 19 }, follow));
  await expect(follow()).rejects.toMatchObject({ status: 429, code: "rate_limit_exceeded" });
  await reader?.cancel();
  followers.push(await follow());
  for (const one of followers) await one.body?.cancel();
  await responses.cancel(id);
});

test("another project's response does not exist, and what is wrong is refused at once", async () => {
  const { responses } = kept.client();
  const { id } = await responses
    .create({ model: "gpt-test", input, background, stream: true })
    .asResponse()
    .then(async (response) => {
      const text = await response.text();
      return JSON.parse(/data: (.*)/.exec(text)?.[1] ?? "").response as { id: string };
    });
  const theirs = kept.client("other").responses;
  const gone = { status: 404, message: expect.stringContaining(id) };
  await expect(theirs.retrieve(id)).rejects.toMatchObject(gone);
  await expect(theirs.retrieve(id, { stream: true })).rejects.toMatchObject(gone);
  await expect(theirs.cancel(id)).rejects.toMatchObject(gone);

  const waited = await responses.create({ model: "gpt-test", input });
  await expect(responses.cancel(waited.id)).rejects.toMatchObject({
    status: 400,
    message: expect.stringContaining("Cannot cancel a synchronous response."),
  });
  await expect(
    responses.create({ model: "gpt-test", input, background, store: false }),
  ).rejects.toMatchObject({ status: 400, param: "background" });
  await expect(responses.create({ model: "unknown", input, background })).rejects.toMatchObject({
    status: 404,
    code: "model_not_found",
  });
  await expect(
    responses.create({ model: "gpt-test", input, background: "yes" as never }),
  ).rejects.toMatchObject({ status: 400, param: "background" });
  await expect(
    responses.retrieve(id, { stream: true, starting_after: "x" as never }),
  ).rejects.toMatchObject({ status: 400, param: "starting_after" });
});

test("what a stopped gateway ran has failed, and says so", async () => {
  const gateway = await kept.another();
  const through = kept.client("acme", gateway).responses;
  const { id } = await through.create({ model: "never", input, background });
  await gateway.stop();
  expect(await kept.client().responses.retrieve(id)).toMatchObject({
    status: "failed",
    error: { code: "server_error", message: expect.stringContaining("stopped") },
  });
});

test("a process keeps alive what it runs, and nothing that it has given up", async () => {
  const shared = { sql: kept.database.sql, now: Date.now, retentionMs: 60_000, timeoutMs: 5_000 };
  const runs = openRunStore({ ...shared, leaseMs: -1000, runsMax: 9, runsPerProjectMax: 9 });
  for (const id of ["resp_run", "resp_given_up"]) {
    const response = { id, status: "in_progress" };
    const about = { id, previousId: undefined, response, input: [] };
    await runs.begin({ projectId: "proj_a", owner: "one", streamed: false, kept: about });
  }
  const later = openRunStore({ ...shared, leaseMs: 60_000, runsMax: 9, runsPerProjectMax: 9 });
  expect(await later.beat("one", ["resp_run"])).toEqual(new Set(["resp_run"]));
  expect((await runs.look("proj_a", "resp_run")).response.status).toBe("in_progress");
  expect((await runs.look("proj_a", "resp_given_up")).response.status).toBe("failed");
});

test("events that were written though the answer to that was lost are written again, with what came since", async () => {
  const { sql } = kept.database;
  const shared = { sql, now: Date.now, retentionMs: 60_000, timeoutMs: 5_000, leaseMs: 60_000 };
  const runs = openRunStore({ ...shared, runsMax: 9, runsPerProjectMax: 9 });
  const [id, owner, projectId] = ["resp_twice", "one", "proj_a"];
  const response = { id, status: "completed" };
  const about = { id, previousId: undefined, response: { id, status: "queued" }, input: [] };
  await runs.begin({ projectId, owner, streamed: true, kept: about });
  const first = { first: 0, last: 1, frames: "a\n\nb\n\n" };
  const longer = { first: 0, last: 2, frames: "a\n\nb\n\nc\n\n" };
  const own = { owner, id };
  for (const events of [first, longer, first]) expect(await runs.note(own, { events })).toBe(true);
  const end = { response, events: { ...longer, first: 3, last: 5 }, turn: undefined };
  expect(await runs.finish({ ...own, projectId }, end)).toBe(true);
  const { batches } = await runs.eventsAfter(id, -1);
  expect(batches).toEqual([longer, end.events]);
});

test("a background response is forgotten with its events, though nothing else is kept after it", async () => {
  const { responses } = kept.client();
  const { sql } = kept.database;
  const stream = await responses.create({ model: "gpt-test", input, background, stream: true });
  for await (const _ of stream);
  await sql`update gateway.responses set expires_at = now() - interval '1 day'`;
  await kept.another();
  const left = () =>
    sql`select response_id from gateway.response_events`.then(({ count }) => count);
  await expect.poll(left, { timeout: 20_000 }).toBe(0);
});
