const { SWITCHYARD_URL, SWITCHYARD_API_KEY: apiKey } = process.env;

/** `opencode.json`, or the file that OPENCODE_CONFIG names. */
export const config = (models) => ({
  $schema: "https://opencode.ai/config.json",
  provider: {
    switchyard: {
      npm: "@ai-sdk/openai-compatible",
      name: "Switchyard",
      options: { baseURL: `${SWITCHYARD_URL}/v1`, apiKey },
      models: Object.fromEntries(models.map((model) => [model, {}])),
    },
  },
});
