/** Chat templates: what they make of messages, and what becomes of those that want too much. */
import { Template } from "@huggingface/jinja";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HubError } from "../../../sdk/protocol/errors.ts";
import { createChatTemplate, type TemplateMessage } from "./chat-template.ts";

const tokens = { bos_token: "<s>", eos_token: "</s>" };
const messages: TemplateMessage[] = [
  { role: "system", content: "Answer briefly." },
  { role: "user", content: "  Where is\nmy parcel? " },
  { role: "assistant", content: "<think>hm</think>On its way." },
  { role: "user", content: "Thank you" },
];

/** Pieces of templates as models have them: Llama 3.1, Qwen3, Gemma, Mistral, Phi. */
const plain = [
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
  "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system = messages[0]['content'] | trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system = '' %}\n{%- endif %}\n{{- system ~ '|' }}{%- for m in messages %}{{ loop.index0 ~ loop.last ~ m.content | trim }}{% endfor %}",
  "{%- set ns = namespace(last=-1, found=false) %}{%- for m in messages[::-1] %}{%- if m.role == 'user' and not ns.found %}{%- set ns.found = true %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}{{ ns.last }}",
  "{% for m in messages if m.role != 'system' %}{{ m.content.split('</think>')[-1].lstrip('\\n') }}{% if not loop.last %}, {% endif %}{% endfor %}",
  "{% macro show(m, mark='*') %}{{ mark ~ m.content | upper | replace('E', 'e') ~ mark }}{% endmacro %}{% for m in messages %}{{ show(m) }}{{ show(m, mark='-') }}{% endfor %}",
  "{{ messages | tojson }}{{ messages | map(attribute='role') | join(', ') }}{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
  "{{ {'a': [1, 2.0, none, true], 'b': {'c': 'x'}} | tojson(indent=2) }}{{ 'one\\ntwo' | indent(4, true) }}{{ [3, 1, 2] | sort | reverse | list }}",
  "{% for key, value in {'x': 1, 'y': 2} | items %}{{ key }}={{ value }};{% endfor %}{% for i in range(2, 9, 3) %}{{ i }}{% endfor %}{{ range(3) | list | tojson }}",
  "{% if missing is defined %}no{% elif 'think' in messages[2].content and 'x' not in ['y'] %}yes{% endif %}{{ messages[0].missing is none }}{{ (messages | first).role }}",
  "{% filter upper %}{{ messages[3].content }}{% endfilter %}{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}x{% endcall %}",
  "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ 7 // 2 }}{{ 2 ** 5 }}{{ -3 % 5 }}{{ 'a' if messages | length > 3 else 'b' }}",
];

test.each(plain)(
  "within its bounds a template gives what the interpreter alone gives: %s",
  (source) => {
    const expected = new Template(source).render({
      ...tokens,
      messages,
      add_generation_prompt: true,
    });
    expect(createChatTemplate(source, tokens).render(messages)).toBe(expected);
  },
);

test("a thousand messages, and one of a megabyte, stay far within the bounds", () => {
  const source = plain.slice(0, 5).join("");
  const template = createChatTemplate(source, tokens);
  const many = Array.from({ length: 1_000 }, () => messages).flat();
  expect(template.render(many).length).toBeGreaterThan(100_000);
  const long = [{ role: "user", content: "many words ".repeat(100_000) }];
  expect(template.render(long).length).toBeGreaterThan(1_000_000);
});

test("a template may ask for the date, and is told it in English", () => {
  const noon = () => new Date(2024, 6, 26, 12, 5, 9).getTime();
  const source = "{{ strftime_now('%d %b %Y, %B %y %m %H:%M:%S 100%%') }}";
  expect(createChatTemplate(source, {}, noon).render([])).toBe(
    "26 Jul 2024, July 24 07 12:05:09 100%",
  );
});

test("a template that refuses at length is cut short", () => {
  const source = "{{ raise_exception(range(50000) | join('x')) }}";
  const refusal = expect.objectContaining({ message: expect.stringMatching(/^.{1000,1100}$/) });
  expect(() => createChatTemplate(source, {}).render(messages)).toThrow(refusal);
});

test("what a template refuses is the request's fault, in the template's words", () => {
  const source = "{{ raise_exception('Roles must alternate.') }}";
  expect(() => createChatTemplate(source, {}).render(messages)).toThrow(
    expect.objectContaining({
      code: "invalid_value",
      message: expect.stringContaining("Roles must alternate."),
    }),
  );
});

const doubled = (value: string, step: string) =>
  `{% set ns = namespace(x=${value}) %}{% for i in range(60) %}{% set ns.x = ${step} %}{% endfor %}`;

describe("a template that wants too much ends with an error that says so", () => {
  test.each([
    [
      "a range without end",
      "{% for i in range(10 ** 9) %}x{% endfor %}",
      /range of more than 100000/,
    ],
    [
      "loops in loops",
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      /more work/,
    ],
    [
      "a text that doubles",
      `${doubled("'ab'", "ns.x ~ ns.x")}{{ ns.x }}`,
      /more than \d+ characters/,
    ],
    [
      "a list that doubles",
      `${doubled("[1]", "ns.x + ns.x")}{{ ns.x }}`,
      /more than \d+ characters/,
    ],
    [
      "lists of lists of lists",
      `${doubled("[1]", "[ns.x, ns.x]")}{{ ns.x | tojson }}`,
      /more than \d+ characters/,
    ],
    [
      "tables of tables",
      `${doubled("{}", "{'a': ns.x, 'b': ns.x}")}{{ ns.x | string }}`,
      /more than \d+ characters/,
    ],
    [
      "a namespace in itself",
      "{% set n = namespace() %}{% set n.n = n %}{{ n | tojson }}",
      /namespace inside/,
    ],
    ["a namespace in a list", "{% set n = namespace() %}{{ [n] }}", /namespace inside/],
    [
      "a macro that calls itself",
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      /nests deeper|stack/,
    ],
    [
      "itself put between all letters",
      `${doubled("'a'", "ns.x.replace('', ns.x)")}`,
      /more than \d+ characters/,
    ],
    [
      "a replacement that grows",
      "{% set a = range(50000) | join('x') %}{{ a | replace('x', a) }}",
      /more than \d+ characters/,
    ],
    [
      "a wide join",
      "{% set a = range(50000) | join('x') %}{{ range(50000) | join(a) }}",
      /more than \d+ characters/,
    ],
    ["a wide indent", "{{ 'a\\nb' | indent(10 ** 9) }}", /more than \d+ characters/],
    [
      "a wide indent by name",
      "{{ 'a\\nb' | indent(first=true, width=10 ** 9) }}",
      /more than \d+ characters/,
    ],
    ["wide JSON", "{{ [[1]] | tojson(indent=10 ** 9) }}", /more than \d+ characters/],
    [
      "JSON with long separators",
      "{% set a = range(50000) | join('x') %}{{ range(50000) | list | tojson(separators=(a, a)) }}",
      /more than \d+ characters/,
    ],
    [
      "much text, over and over",
      "{% set a = range(50000) | join('x') %}{% for i in range(99999) %}{{ a }}{% endfor %}",
      /more work|more than/,
    ],
    [
      "a long list, over and over",
      "{% set a = range(50000) | list %}{% for i in range(99999) %}{{ a }}{% endfor %}",
      /more work/,
    ],
    [
      "a search, over and over",
      "{% set a = range(50000) | list %}{% for i in range(99999) %}{% if 'x' in a %}{% endif %}{% endfor %}",
      /more work/,
    ],
    [
      "sorting, over and over",
      "{% set a = range(50000) | list %}{% for i in range(99999) %}{% if a | sort %}{% endif %}{% endfor %}",
      /more work/,
    ],
    [
      "an empty loop, over and over",
      "{% set a = range(50000) | list %}{% for i in range(99999) %}{% for j in a if false %}{% endfor %}{% endfor %}",
      /more work/,
    ],
    [
      "cutting letters, over and over",
      "{% set a = range(50000) | join('x') %}{% for i in range(99999) %}{% if a[::-1] %}{% endif %}{% endfor %}",
      /more work/,
    ],
    [
      "months, over and over",
      "{% for i in range(99999) %}{{ strftime_now('%B%B%B%B%B%B%B%B%B%B%B%B') }}{% endfor %}",
      /more work/,
    ],
    [
      "missing names, over and over",
      "{% for i in range(99999) %}{{ a }}{{ b }}{{ c }}{{ d }}{% endfor %}",
      /more work/,
    ],
  ])("%s", (_what, source, message) => {
    expect(() => createChatTemplate(source, {}).render(messages)).toThrow(
      expect.objectContaining({
        code: "unsupported_model",
        message: expect.stringMatching(message),
      }),
    );
  });

  test.each([
    ["a source without end", "x".repeat(300_000), /longer than 262144/],
    ["blanks without end", `${" ".repeat(200_000)}x`, /1,000 blanks/],
    ["brackets without end", `{{ ${"(".repeat(100_000)} }}`, /cannot be parsed/],
    [
      "lists in lists without end",
      `{{ ${"[".repeat(60_000)}${"]".repeat(60_000)} }}`,
      /cannot be parsed/,
    ],
    ["a block that is never closed", "{% for x in y %}", /cannot be parsed/],
    ["no Jinja", "{{ }", /cannot be parsed/],
  ])("%s", (_what, source, message) => {
    expect(() => createChatTemplate(source, {})).toThrow(
      expect.objectContaining({
        code: "unsupported_model",
        message: expect.stringMatching(message),
      }),
    );
  });
});

test("any pieces in any order give a text or a refusal, never anything else", () => {
  const pieces = [
    ...plain.flatMap((source) => source.split(/(?=\{[{%])|(?<=[%}]\})/)),
    "{% set x = x ~ messages | tojson %}",
    "{{ x[::-1] | indent(99) }}",
    "{{ (",
    "'",
    "{# ",
    "\\",
    " ]",
    "{% endmacro %}",
    "| replace('', ')",
  ];
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 12 }), (parts) => {
      try {
        const text = createChatTemplate(parts.join(""), tokens).render(messages);
        expect(typeof text).toBe("string");
      } catch (error) {
        expect(error).toBeInstanceOf(HubError);
      }
    }),
    { numRuns: 3_000, seed: 4 },
  );
});
