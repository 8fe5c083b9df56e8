/** The tokenizer and chat template against what transformers 4 gives for the same strings. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { HubError } from "../../sdk/protocol/errors.ts";
import { createChatTemplate } from "./chat-template.ts";
import { loadTokenizer } from "./tokenizer.ts";

type TokenizerGolden = { text: string; ids: number[]; decoded: string };
type ChatGolden = {
  messages: { role: string; content: string }[];
  add_generation_prompt: boolean;
  text: string;
  ids: number[];
};

const golden = (name: string) =>
  JSON.parse(readFileSync(new URL(`../__fixtures__/tiny/${name}.json`, import.meta.url), "utf8"));
const folder = fileURLToPath(new URL("../../deploy/demo-model/base/", import.meta.url));
const tokenizer = await loadTokenizer(folder);
const template = createChatTemplate(
  readFileSync(join(folder, "chat_template.jinja"), "utf8"),
  tokenizer.specialTokens,
);

test("every golden string gives the reference's ids, and the ids its text", () => {
  for (const { text, ids, decoded } of golden("tokenizer") as TokenizerGolden[]) {
    expect({ text, ids: tokenizer.encode(text) }).toEqual({ text, ids });
    expect({ text, decoded: tokenizer.decode(ids) }).toEqual({
      text,
      decoded: withoutSpecials(decoded),
    });
  }
});

test("every golden conversation gives the reference's text and ids", () => {
  for (const { messages, add_generation_prompt, text, ids } of golden(
    "chat_template",
  ) as ChatGolden[]) {
    const rendered = template.render(messages, { generationPrompt: add_generation_prompt });
    expect(rendered).toBe(text);
    expect(tokenizer.encode(rendered)).toEqual(ids);
  }
});

test("a template that refuses the messages tells why", () => {
  const strict = createChatTemplate("{{ raise_exception('roles must alternate') }}", {});
  const refused = () => strict.render([{ role: "user", content: "Hi" }]);
  expect(refused).toThrow(HubError);
  expect(refused).toThrow("roles must alternate");
});

test("a template reads the model's special tokens and the usual extensions", () => {
  const source =
    "{{- bos_token }}{% for m in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}{{ m.role | upper }}: {{ m['content'] | trim }}{% endfor %}{{ eos_token if not add_generation_prompt }}";
  const rendered = createChatTemplate(source, { bos_token: "<s>", eos_token: "</s>" }).render(
    [
      { role: "user", content: " a " },
      { role: "assistant", content: "b" },
    ],
    { generationPrompt: false },
  );
  expect(rendered).toBe("<s>USER: a\nASSISTANT: b</s>");
});

test("a template that is no Jinja is the model's fault, told at the start", () => {
  expect(() => createChatTemplate("{% for %}", {})).toThrow("cannot be parsed");
});

function withoutSpecials(text: string): string {
  return text.replaceAll(/<\|(?:endoftext|im_start|im_end)\|>/g, "");
}
