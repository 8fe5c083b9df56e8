/** `config.toml` in the folder that CODEX_HOME names, with the key in SWITCHYARD_API_KEY. */
export const config = (model) => `\
model = "${model}"
model_provider = "switchyard"

[model_providers.switchyard]
name = "Switchyard"
base_url = "${process.env.SWITCHYARD_URL}/v1"
env_key = "SWITCHYARD_API_KEY"
wire_api = "responses"
`;
