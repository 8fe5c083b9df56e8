/** What a tenant has, and where operations take the names of it: for the proof that no other tenant reaches any. */
import type { Operation } from "../../sdk/protocol/openapi/operation.ts";
import { call, eventually, type Tenant } from "./api.ts";

/** One of each, by what it is. */
export type Belongings = Readonly<Record<Kind, string>>;
export type Kind = keyof Awaited<ReturnType<typeof furnish>>;

type Json = Record<string, unknown>;

/** Where a path takes a name: all of it up to the name. `free`: nobody's, such as a place of Google's. */
const inPath: Readonly<Record<string, Kind | "free">> = {
  "/v1/chat/completions/{id}": "completion",
  "/v1/responses/{id}": "response",
  "/v1/conversations/{id}": "conversation",
  "/v1/conversations/{id}/items/{item}": "item",
  "/v1/files/{id}": "file",
  "/v1/uploads/{id}": "upload",
  "/v1/batches/{id}": "batch",
  "/v1/models/{model}": "model",
  "/v1beta/models/{model}": "model",
  "/model/{model}": "model",
  "/v1/publishers/{publisher}": "free",
  "/v1/publishers/{publisher}/models/{model}": "model",
  "/v1beta1/publishers/{publisher}": "free",
  "/v1beta1/publishers/{publisher}/models/{model}": "model",
  ...Object.fromEntries(
    ["v1", "v1beta1"].flatMap((version) => {
      const project = `/${version}/projects/{project}`;
      const publisher = `${project}/locations/{location}/publishers/{publisher}`;
      return [
        [project, "free"],
        [`${project}/locations/{location}`, "free"],
        [publisher, "free"],
        [`${publisher}/models/{model}`, "model"],
      ];
    }),
  ),
  "/api/requests/{id}": "request",
  "/api/projects/{id}": "project",
  "/api/keys/{id}": "key",
  "/api/me/keys/{id}": "key",
  "/api/models/{id}": "model",
  "/api/routes/{name}": "route",
  "/api/adapters/{id}": "adapter",
  "/api/adapters/{id}/aliases/{alias}": "alias",
  "/v1/organization/projects/{id}": "project",
  "/v1/organization/projects/{id}/service_accounts/{account}": "account",
  "/v1/organization/projects/{id}/api_keys/{key}": "key",
  "/v1/organization/projects/{id}/rate_limits/{limit}": "limit",
  "/v1/organization/projects/{id}/users/{user}": "person",
  "/v1/organization/projects/{id}/spend_alerts/{alert}": "alert",
  "/v1/organization/admin_api_keys/{key}": "adminKey",
  "/v1/organization/users/{user}": "person",
  "/v1/organization/spend_alerts/{alert}": "wholeAlert",
  "/v1/organization/invites/{invite}": "invite",
  "/api/datasets/{sha256}": "dataset",
  "/api/evals/runs/{id}": "run",
};

/** Parameters of queries, wherever they stand; `cursor`s name one of their list's. */
const inQuery: Readonly<Record<string, Kind | "free" | "cursor">> = {
  ...Object.fromEntries(
    [
      ...[
        "limit",
        "order",
        "stream",
        "alt",
        "from",
        "to",
        "format",
        "group_by",
        "page",
        "pageSize",
      ],
      ...["pageToken", "purpose", "bucket_width", "batch", "sources", "line_items", "start_time"],
      ...["end_time", "outcome", "error", "status", "pricing", "upstream", "failed", "at", "name"],
      ...["include_archived", "starting_after", "event_types", "actor_emails", "emails"],
      ...["gt", "gte", "lt", "lte"].map((bound) => `effective_at[${bound}]`),
    ].map((name) => [name, "free"]),
  ),
  after: "cursor",
  before: "cursor",
  project: "project",
  projectId: "project",
  project_ids: "project",
  key: "key",
  api_key_ids: "key",
  actor_ids: "key",
  user: "endUser",
  user_ids: "person",
  owner: "account",
  adapter: "digest",
  model: "model",
  models: "model",
  candidate: "model",
  task: "task",
  cost_centre: "costCentre",
  route: "route",
  alias: "alias",
  subject: "adapter",
  resource_ids: "request",
};

/** What the elements of a list are named by. */
const inList: Readonly<Record<string, Kind | "free">> = {
  "/v1/chat/completions": "completion",
  "/v1/chat/completions/{id}/messages": "completion",
  "/v1/responses/{id}/input_items": "inputItem",
  "/v1/conversations/{id}/items": "item",
  "/v1/files": "file",
  "/v1/batches": "batch",
  "/api/budgets": "key",
  "/api/budgets/alerts": "key",
  "/api/requests": "request",
  "/api/projects": "project",
  "/api/keys": "key",
  "/api/me/keys": "key",
  "/api/models": "model",
  "/api/routes": "route",
  "/api/prices": "model",
  "/api/adapters": "adapter",
  "/api/measurements": "measurement",
  // Numbers of one row of events for all: each is a place in it, whoever's it is.
  "/api/events": "free",
  "/v1/organization/projects": "project",
  "/v1/organization/projects/{id}/service_accounts": "account",
  "/v1/organization/projects/{id}/api_keys": "key",
  "/v1/organization/projects/{id}/rate_limits": "limit",
  "/v1/organization/admin_api_keys": "key",
  "/v1/organization/users": "person",
  "/v1/organization/projects/{id}/users": "person",
  "/v1/organization/projects/{id}/spend_alerts": "alert",
  "/v1/organization/spend_alerts": "alert",
  "/v1/organization/invites": "invite",
  "/v1/organization/audit_logs": "free",
  "/api/datasets": "dataset",
  "/api/evals/runs": "run",
  "/api/evals/runs/{id}/results": "run",
};

const chats = (model: string, ...parts: Json[]) => ({
  model,
  messages: [{ role: "user", content: parts.length > 0 ? parts : "hello" }],
});
const asks = (own: Belongings) => [{ ...chats(own.model), max_tokens: 8 }];
const respond = (own: Belongings): Json[] => {
  const ask = { model: own.base, input: "hello" };
  const turn = (...content: Json[]) => [{ type: "message", role: "user", content }];
  return [
    { ...ask, model: own.model },
    { ...ask, previous_response_id: own.response },
    { ...ask, conversation: own.conversation },
    { ...ask, conversation: { id: own.conversation } },
    { ...ask, input: turn({ type: "input_file", file_id: own.file }) },
    { ...ask, input: turn({ type: "input_image", file_id: own.file, detail: "auto" }) },
    { ...ask, input: [{ type: "item_reference", id: own.inputItem }] },
  ];
};
/** Its path alone says what it is about. */
const pathSays = () => [];
/** Only an administrator may; what an example says is as good as anything. */
const administrators = () => [];
const forms = (own: Belongings, fields: Record<string, string | Blob>) => [
  { form: { model: own.model, ...fields } },
];
const bytes = new Blob([Buffer.from("RIFF0000WAVE")]);

/** Bodies that name what the tenant has, by operation; `form`s are multipart. None: nothing in it is anybody's. */
const inBody: Readonly<Record<string, (own: Belongings) => Json[]>> = {
  createChatCompletion: (own) => [
    ...asks(own),
    chats(own.base, { type: "file", file: { file_id: own.file } }),
  ],
  updateChatCompletion: pathSays,
  createResponse: respond,
  countResponseTokens: respond,
  compactResponse: (own) => respond(own).filter(({ conversation }) => conversation === undefined),
  createConversation: pathSays,
  updateConversation: pathSays,
  createConversationItems: pathSays,
  createCompletion: (own) => [{ model: own.model, prompt: "hello" }],
  createEmbedding: (own) => [{ model: own.model, input: "hello" }],
  createModeration: (own) => [{ model: own.model, input: "hello" }],
  createImage: (own) => [{ model: own.model, prompt: "a parrot" }],
  editImage: (own) => forms(own, { prompt: "a parrot", image: bytes }),
  varyImage: (own) => forms(own, { image: bytes }),
  createSpeech: (own) => [{ model: own.model, input: "hello", voice: "alloy" }],
  createTranscription: (own) => forms(own, { file: bytes }),
  createTranslation: (own) => forms(own, { file: bytes }),
  createFile: pathSays,
  createUpload: pathSays,
  addUploadPart: () => [{ form: { data: bytes } }],
  completeUpload: (own) => [{ part_ids: [own.part] }],
  createBatch: (own) => [
    { input_file_id: own.file, endpoint: "/v1/chat/completions", completion_window: "24h" },
  ],
  createMessage: (own) => [
    ...asks(own),
    {
      ...chats(own.base, { type: "document", source: { type: "file", file_id: own.file } }),
      max_tokens: 8,
    },
  ],
  countMessageTokens: (own) => [chats(own.model)],
  pushAdapter: (own) => [
    { form: { manifest: JSON.stringify({ base: own.base, name: "x", projectId: own.project }) } },
  ],
  moveAlias: pathSays,
  rollBackAlias: pathSays,
  addMeasurements: (own) => [
    {
      measurements: [
        {
          ...{ runId: own.run, projectId: own.project, task: own.task, scorer: "exact" },
          ...{ datasetDigest: own.dataset, model: own.model, adapterDigest: own.digest, n: 1 },
          ...{ score: 1, lower: 0, upper: 1, meanInputTokens: 1, meanOutputTokens: 1 },
          ...{ latencyP50Ms: 1, latencyP95Ms: 1, measuredAt: "2026-11-22T00:00:00Z" },
        },
      ],
    },
  ],
  pushDataset: pathSays,
  createRun: (own) => [
    { task: "x", dataset: own.dataset, candidates: [own.base], scorer: { type: "exact" } },
    { task: "x", dataset: own.ofTheOther, candidates: [own.model], scorer: { type: "exact" } },
  ],
  explainRoute: (own) => [chats(own.model), chats(own.route)],
  testGuardrails: pathSays,
  ...Object.fromEntries(
    ["generateContent", "streamGenerateContent", "countTokens"]
      .flatMap((id) => ["", "V1", "OfProject", "OfProjectBeta"].map((of) => id + of))
      .concat(
        ["generateContent", "streamGenerateContent", "countTokens"].flatMap((id) =>
          ["OfPublisher", "OfPublisherBeta"].map((of) => id + of),
        ),
      )
      .concat("converse", "converseStream")
      .map((id) => [id, pathSays]),
  ),
};

/** A request that names what is `own`ed: the same with what is nowhere in its place is what it is compared with. */
export type Naming = { path: string; query: string; body: Json | undefined };

/**
 * Every way in which an operation can name something of a tenant's.
 * @throws Error that says what to add, of an operation that nothing is known of
 */
export function namings(operation: Operation, own: Belongings): Naming[] {
  const { id, path, query = { shape: {} }, body, access } = operation;
  const at = path.replace(/\{(\w+)\}/g, (name, _, offset: number) => {
    const kind = inPath[path.slice(0, offset) + name];
    if (kind === undefined) throw unknown(id, `what ${path} takes as ${name}`, "inPath");
    return kind === "free" ? "any" : encodeURIComponent(own[kind]);
  });
  const makeBodies = body && (access === "admin" ? administrators : inBody[id]);
  if (body && !makeBodies) throw unknown(id, "what its body may name", "inBody");
  const bodies = makeBodies?.(own) ?? [];
  const example = body?.example as Json | undefined;
  const queries = Object.keys(query.shape).flatMap((name) => {
    const known = inQuery[name];
    if (known === undefined) throw unknown(id, `what ?${name}= is`, "inQuery");
    const kind = known === "cursor" ? inList[path] : known;
    if (kind === undefined) throw unknown(id, `what ${path} lists`, "inList");
    return kind === "free" ? [] : [`${name}=${encodeURIComponent(own[kind])}`];
  });
  const always = "start_time" in query.shape ? "start_time=0&" : "";
  const isWhole = path.includes("{") || operation.method === "get";
  const inItself = isWhole ? [{ path: at, query: always, body: example }] : [];
  return [
    ...(bodies.length > 0 ? [] : inItself),
    ...queries.map((one) => ({ path: at, query: always + one, body: example })),
    ...bodies.map((one) => ({ path: at, query: always, body: one })),
  ];
}

function unknown(id: string, what: string, table: string): Error {
  return new Error(
    `Nothing tells ${what} (${id}). Add it to \`${table}\` in test/support/belongings.ts, and what \`furnish\` lacks.`,
  );
}

/** A name of the same form that nobody has. */
export function nowhere(text: string): string {
  const [, head = "", tail = "", version = ""] = /^(.*?)([^@]{0,8})(@\d+)?$/s.exec(text) ?? [];
  const turned = tail.replace(/[a-z]/gi, (it) => (it === "a" ? "b" : "a"));
  return head + turned.replace(/\d/g, (it) => (it === "0" ? "1" : "0")) + version;
}

/** Gives the tenant one of everything; `other` gets what requests of theirs need of their own. */
export async function furnish(given: {
  url: string;
  adminKey: string;
  tenant: Tenant;
  other: Tenant;
  /** Of the tenant's: names of the base and of the adapter, whose version has the alias. */
  pushed: { id: string; digest: string; base: string; name: string; alias: string };
}) {
  const { url, adminKey, tenant, other, pushed } = given;
  const send = async (key: string, method: string, path: string, body?: unknown) => {
    const answer = await call(url, key, method, path, body);
    if (answer.status >= 300) throw new Error(`${path}: ${JSON.stringify(answer.body)}`);
    return answer.body as Json & { id: string };
  };
  const own = (path: string, body?: unknown) =>
    send(tenant.key, body === undefined ? "GET" : "POST", path, body);
  const admin = (path: string, body?: unknown) =>
    send(adminKey, body === undefined ? "GET" : "POST", path, body);
  const firstOf = ({ data }: Json) => (data as { id: string }[])[0]?.id ?? "none";
  const form = async (key: string, path: string, fields: Record<string, string | Blob>) => {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.set(name, value as Blob);
    const headers = { authorization: `Bearer ${key}` };
    const response = await fetch(url + path, { method: "POST", headers, body });
    if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
    return (await response.json()) as { id: string };
  };
  await send(adminKey, "PATCH", `/api/projects/${tenant.projectId}`, { contentLog: {} });
  const ask = { model: pushed.base, max_tokens: 8, user: "carol" };
  const turn = { role: "user", content: "hello" };

  const conversation = await own("/v1/conversations", { items: [turn] });
  const items = await own(`/v1/conversations/${conversation.id}/items`);
  const response = await own("/v1/responses", { model: pushed.base, input: "hello" });
  const inputItems = await own(`/v1/responses/${response.id}/input_items`);
  const completion = await own("/v1/chat/completions", { ...ask, messages: [turn], store: true });
  const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions" };
  const lines = JSON.stringify({ ...line, body: { ...ask, messages: [turn] } });
  const file = await form(tenant.key, "/v1/files", {
    purpose: "batch",
    file: new File([lines], "a.jsonl"),
  });
  const upload = await own("/v1/uploads", {
    ...{ filename: "a.jsonl", purpose: "batch", bytes: 10, mime_type: "text/jsonl" },
  });
  const part = await form(tenant.key, `/v1/uploads/${upload.id}/parts`, { data: bytes });
  const batch = await own("/v1/batches", {
    ...{ input_file_id: file.id, endpoint: line.url, completion_window: "24h" },
  });
  const ended = await eventually("the batch", async () => {
    const now = await own(`/v1/batches/${batch.id}`);
    return now.status === "completed" ? now : undefined;
  });
  await own("/v1/chat/completions", { ...ask, messages: [turn], model: pushed.base });

  const row = JSON.stringify({ input: "hello", ideal: "hello" });
  const datasetOf = async (key: string, name: string, text: string) => {
    const path = `${url}/api/datasets?name=${name}`;
    const headers = { authorization: `Bearer ${key}`, "content-type": "application/x-ndjson" };
    const response = await fetch(path, { method: "POST", headers, body: text });
    return ((await response.json()) as { sha256: string }).sha256;
  };
  const dataset = await datasetOf(tenant.key, "private", row);
  const task = "private-task";
  const adapted = `${pushed.base}:${pushed.name}@1`;
  const run = await own("/api/evals/runs", {
    ...{ task, dataset, candidates: [adapted], scorer: { type: "exact" }, maxTokens: 8 },
  });
  await eventually("the run", async () =>
    (await own(`/api/evals/runs/${run.id}`)).status === "running" ? undefined : true,
  );

  const route = "private-route";
  await send(adminKey, "PUT", `/api/routes/${route}`, {
    ...{ projectId: tenant.projectId, defaultModel: pushed.base, fallbacks: [], tasks: [] },
  });
  const ofProject = `/v1/organization/projects/${tenant.projectId}`;
  const account = await admin(`${ofProject}/service_accounts`, { name: "private-crawler" });
  const amount = {
    ...{ currency: "USD", interval: "month", threshold_amount: 8000 },
    notification_channel: { type: "email", recipients: ["ops@example.com"] },
  };
  const alert = await admin(`${ofProject}/spend_alerts`, amount);
  const wholeAlert = await admin("/v1/organization/spend_alerts", amount);
  const ofAdmins = await admin("/v1/organization/admin_api_keys", { name: "terraform" });
  const projects = [{ id: tenant.projectId, role: "member" }];
  const email = "new@example.com";
  const invite = await admin("/v1/organization/invites", { email, role: "reader", projects });
  const costCentre = "private-cost-centre";
  await send(adminKey, "PATCH", `/api/projects/${tenant.projectId}`, {
    ...{ costCentre, budgets: [{ limitUsd: "1000", period: "month" }] },
  });
  const requests = await eventually("the requests", async () => {
    const found = await own("/api/requests");
    return (found.data as unknown[]).length >= 5 ? found : undefined;
  });

  return {
    base: pushed.base,
    model: adapted,
    adapter: pushed.id,
    alias: pushed.alias,
    digest: pushed.digest,
    conversation: conversation.id,
    item: firstOf(items),
    response: response.id,
    inputItem: firstOf(inputItems),
    completion: completion.id,
    file: file.id,
    outputFile: String(ended.output_file_id),
    upload: upload.id,
    part: part.id,
    batch: batch.id,
    request: firstOf(requests),
    endUser: "carol",
    costCentre,
    project: tenant.projectId,
    key: firstOf(await admin(`/api/keys?projectId=${tenant.projectId}`)),
    account: account.id,
    // People exist where they log in; test/e2e/people.test.ts has what each may see.
    person: "user_01kap3v5eh4s7m9x2c8b6n0wqt",
    invite: invite.id,
    alert: alert.id,
    wholeAlert: wholeAlert.id,
    adminKey: ofAdmins.id,
    limit: firstOf(await admin(`${ofProject}/rate_limits`)),
    route,
    task,
    dataset,
    ofTheOther: await datasetOf(other.key, "public", `${row}\n${row}`),
    run: run.id,
    measurement: firstOf(await own("/api/measurements")),
  };
}
