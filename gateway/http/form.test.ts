import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type FormLimits, Forms, type Upload } from "./form.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "switchyard-forms-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const limits: FormLimits = {
  formBytesMax: 1 << 20,
  formsBytesMax: 1 << 20,
  formTextBytesMax: 1000,
  formPartsMax: 4,
};
const forms = (more: Partial<FormLimits> = {}) => new Forms(folder, { ...limits, ...more });

test("a form is written again with other texts, as often as it is sent, and names are no headers", async () => {
  const form = await forms().read(
    requestOf({ model: "ours", 'odd"\r\nname': "ö", file: new File(["ab\r\n--"], 'a"\r\n.wav') }),
  );
  expect(form.fields.get("model")).toEqual(["ours"]);
  expect(form.files).toMatchObject([{ name: "file", bytes: 6, head: Buffer.from("ab\r\n--") }]);
  const upload = form.write({ model: "theirs" });
  for (const parsed of [await parse(upload), await parse(upload)]) {
    expect([...parsed.keys()]).toEqual(["model", 'odd"\r\nname', "file"]);
    expect(parsed.get("model")).toBe("theirs");
    expect(parsed.get('odd"\r\nname')).toBe("ö");
    const file = parsed.get("file") as File;
    expect(await file.text()).toBe("ab\r\n--");
  }
  await form.close();
});

test("nothing of a form has a name on disk, and nothing can be read of one that is closed", async () => {
  const form = await forms().read(requestOf({ file: new File([Buffer.alloc(100_000)], "a") }));
  expect(await readdir(join(folder, "forms"))).toEqual([]);
  await form.close();
  await form.close();
  await expect(buffer(form.write({}).open())).rejects.toThrow();
});

test("files under way have a bound together, which is given back", async () => {
  const store = forms();
  const large = () => requestOf({ file: new File([Buffer.alloc(600_000)], "a") });
  const first = await store.read(large());
  await expect(store.read(large())).rejects.toMatchObject({ code: "server_is_overloaded" });
  await first.close();
  await (await store.read(large())).close();
});

test.each([
  ["a file beyond the bound", { file: new File([Buffer.alloc((1 << 20) + 1)], "a") }],
  ["texts beyond the bound", { a: "x".repeat(600), b: "x".repeat(600) }],
])("%s is refused, and nothing is kept", async (_, fields) => {
  const store = forms();
  await expect(store.read(requestOf(fields))).rejects.toMatchObject({ code: "request_too_large" });
  const all = requestOf({ file: new File([Buffer.alloc(1_000_000)], "a") });
  await (await store.read(all)).close();
});

test("more parts than there may be are refused", async () => {
  const fields = Object.fromEntries(["a", "b", "c", "d", "e"].map((name) => [name, "1"]));
  await expect(forms().read(requestOf(fields))).rejects.toMatchObject({ code: "invalid_value" });
});

test("a form that breaks off in the middle of a file leaves nothing behind", async () => {
  const store = forms();
  const whole = requestOf({ file: new File([Buffer.alloc(900_000)], "a") });
  const bytes = Buffer.from(await whole.arrayBuffer()).subarray(0, 800_000);
  const cut = new Request(whole.url, { method: "POST", headers: whole.headers, body: bytes });
  await expect(store.read(cut)).rejects.toMatchObject({ code: "invalid_value" });
  const next = requestOf({ file: new File([Buffer.alloc(900_000)], "a") });
  await (await store.read(next)).close();
});

function requestOf(fields: Record<string, string | File>): Request {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  return new Request("http://gateway/", { method: "POST", body });
}

async function parse(upload: Upload): Promise<FormData> {
  const bytes = await buffer(upload.open());
  expect(bytes.length).toBe(upload.bytes);
  return new Response(bytes, { headers: { "content-type": upload.contentType } }).formData();
}
