/** Languages of short texts, as clients write them; what is in none is not taken for one. */
import { eld } from "eld/extrasmall";
import { expect, test } from "vitest";
import { type DetectedLanguage, detectedLanguages } from "../../../sdk/protocol/guardrails.ts";
import { judgeLanguage } from "./language.ts";

const texts: Partial<Record<DetectedLanguage, readonly string[]>> = {
  en: [
    "What is the capital of France?",
    "Label this message: my parcel never arrived.",
    "How do I reset my password?",
    "Write a short poem about the sea.",
  ],
  de: [
    "Was ist die Hauptstadt von Frankreich?",
    "Ordne diese Nachricht ein: Mein Paket kam nie an.",
    "Wie setze ich mein Passwort zurück?",
    "Schreibe ein kurzes Gedicht über das Meer.",
  ],
  fr: [
    "Quelle est la capitale de la France ?",
    "Classe ce message : mon colis n'est jamais arrivé.",
    "Comment réinitialiser mon mot de passe ?",
    "Écris un court poème sur la mer.",
  ],
  es: [
    "¿Cuál es la capital de Francia?",
    "Clasifica este mensaje: mi paquete nunca llegó.",
    "¿Cómo restablezco mi contraseña?",
    "Escribe un poema corto sobre el mar.",
  ],
  it: [
    "Qual è la capitale della Francia?",
    "Classifica questo messaggio: il mio pacco non è mai arrivato.",
    "Scrivi una breve poesia sul mare.",
  ],
  pt: [
    "Qual é a capital da França?",
    "Classifique esta mensagem: meu pacote nunca chegou.",
    "Como redefino a minha senha?",
  ],
  nl: [
    "Wat is de hoofdstad van Frankrijk?",
    "Classificeer dit bericht: mijn pakket is nooit aangekomen.",
    "Schrijf een kort gedicht over de zee.",
  ],
  pl: ["Jaka jest stolica Francji?", "Moja paczka nigdy nie dotarła.", "Jak zresetować hasło?"],
  tr: ["Fransa'nın başkenti neresidir?", "Paketim hiç gelmedi.", "Şifremi nasıl sıfırlarım?"],
  ru: ["Какая столица Франции?", "Моя посылка так и не пришла.", "Как сбросить пароль?"],
  uk: ["Яка столиця Франції?", "Моя посилка так і не прийшла.", "Як скинути пароль?"],
  ar: ["ما هي عاصمة فرنسا؟", "لم يصل طردي أبدا.", "كيف أعيد تعيين كلمة المرور؟"],
  zh: ["法国的首都是哪里？", "我的包裹一直没有到。", "如何重置密码？"],
  ja: [
    "フランスの首都はどこですか？",
    "荷物が届きませんでした。",
    "パスワードをリセットするには？",
  ],
  ko: [
    "프랑스의 수도는 어디인가요?",
    "제 소포가 도착하지 않았어요.",
    "비밀번호를 어떻게 재설정하나요?",
  ],
  hi: ["फ्रांस की राजधानी क्या है?", "मेरा पार्सल कभी नहीं आया।"],
};
const all = Object.entries(texts).flatMap(([language, said]) =>
  said.map((text) => ({ language: language as DetectedLanguage, text })),
);
const only = (...allowed: string[]) => ({
  isFine: (language: DetectedLanguage) => allowed.includes(language),
  confidence: 0.15,
});

test("the languages that a guard may name are those that are told apart", () => {
  expect(Object.values(eld.info().Languages).sort()).toEqual([...detectedLanguages].sort());
});

test.each(Object.keys(texts))(
  "where only %s is allowed, its short texts are never refused and no other's ever pass",
  async (allowed) => {
    let told = 0;
    for (const { language, text } of all) {
      const verdict = await judgeLanguage(text, only(allowed));
      expect(verdict, text).not.toBe(language === allowed ? "other" : "fine");
      if (verdict !== "unknown") told++;
    }
    // Most of them can be told; neighbours such as Spanish and Portuguese not always.
    expect(told / all.length).toBeGreaterThan(0.85);
  },
);

test.each([
  ...["", "42", "2 + 2 =", "https://example.com/some-page?in=english", "ada@example.com", "👍👍"],
  ...["[EMAIL_1]", "ABC-123-XYZ", "```ts\nconst answer = await fetch(address);\n```", "ok"],
])("%j is in no language that could be told", async (text) => {
  expect(await judgeLanguage(text, only("en"))).toBe("unknown");
  expect(await judgeLanguage(text, only("ja"))).toBe("unknown");
});

test("neighbours are told apart only where the rule divides them", async () => {
  const text = "Kan du boka ett bord för två på fredag?";
  expect(await judgeLanguage(text, only("sv", "no", "da"))).toBe("fine");
  expect(await judgeLanguage(text, only("de"))).toBe("other");
});

test("a text is in another language where a good part of it is", async () => {
  const german = "Bitte fasse den folgenden Bericht in drei Sätzen zusammen. ".repeat(4);
  const english = "The invoice was paid twice, and nobody noticed until the end of the year. ";
  expect(await judgeLanguage(german + english, only("de"))).toBe("fine");
  expect(await judgeLanguage(german + english.repeat(4), only("de"))).toBe("other");
});

test("prose in a fence leaves what is beside it unknown, and code does not", async () => {
  const german = "Bitte fasse den folgenden Bericht in drei Sätzen zusammen. ";
  const english = "The invoice was paid twice.\nNobody noticed until the end of the year.\n";
  const code = "const total = invoices.reduce((sum, one) => sum + one.amount, 0);\nreturn total;\n";
  const fenced = (inside: string) => `${german}\n\`\`\`\n${inside}\`\`\`\n`;
  expect(await judgeLanguage(fenced(english), only("de"))).toBe("unknown");
  expect(await judgeLanguage(fenced(english).slice(0, -4), only("de"))).toBe("unknown");
  expect(await judgeLanguage(fenced(code.repeat(5)), only("de"))).toBe("fine");
  expect(await judgeLanguage(fenced(english), only("en"))).toBe("other");
});

test("nobody hides a language behind a beginning in another, however long", async () => {
  const german = "Bitte fasse den folgenden Bericht in drei Sätzen zusammen. ".repeat(5_000);
  const english = "The invoice was paid twice, and nobody noticed. ".repeat(5_000);
  expect(await judgeLanguage(german + english, only("de"))).toBe("other");
  for (const char of ["a", ". ", "\u0301", "`", "@", "1a", "[A", "://"]) {
    await judgeLanguage(char.repeat(200_000), only("de"));
  }
});
