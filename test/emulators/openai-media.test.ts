/** The emulator is right when the provider's own SDK can work with it. */
import OpenAI, { toFile } from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { emulated, type MediaEmulator, startMediaEmulator } from "./openai-media.ts";

let emulator: MediaEmulator;
let client: OpenAI;
beforeAll(async () => {
  emulator = await startMediaEmulator();
  client = new OpenAI({ baseURL: emulator.baseUrl, apiKey: "sk-media", maxRetries: 0 });
});
afterAll(() => emulator?.close());

const file = () => toFile(Buffer.alloc(4000, 1), "speech.mp3", { type: "audio/mpeg" });

test("moderates each text", async () => {
  const { results } = await client.moderations.create({ input: ["kill", "kiss"] });
  expect(results.map(({ flagged }) => flagged)).toEqual([true, false]);
});

test("makes and edits images, whole and as they come about", async () => {
  const whole = await client.images.generate({ model: "gpt-image-1", prompt: "a cat", n: 2 });
  expect(whole.data).toHaveLength(2);
  expect(whole.usage).toEqual(emulated.imageUsage);
  const types: string[] = [];
  const image = await toFile(emulated.image, "cat.png", { type: "image/png" });
  for await (const event of await client.images.edit({
    ...{ model: "gpt-image-1", prompt: "a hat", image: [image, image] },
    ...{ stream: true, partial_images: 1 },
  })) {
    types.push(event.type);
  }
  expect(types).toEqual(["image_edit.partial_image", "image_edit.completed"]);
  expect(emulator.requests.at(-1)?.files.map(({ name }) => name)).toEqual(["image[]", "image[]"]);
});

test("speaks", async () => {
  const wish = { model: "gpt-4o-mini-tts", voice: "ash", input: "Hello" } as const;
  const spoken = await client.audio.speech.create(wish);
  expect(Buffer.from(await spoken.arrayBuffer())).toEqual(emulated.audio);
});

test("transcribes, whole and streamed", async () => {
  const model = "gpt-4o-transcribe";
  const whole = await client.audio.transcriptions.create({ model, file: await file() });
  expect(whole.usage).toEqual(emulated.transcriptUsage);
  let text = "";
  for await (const event of await client.audio.transcriptions.create({
    ...{ model, file: await file(), stream: true },
  })) {
    if (event.type === "transcript.text.delta") text += event.delta;
  }
  expect(text).toBe(whole.text);
});
