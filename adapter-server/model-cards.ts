/** What `/v1/models` lists, as vLLM lists it. */
import type { ServedEncoder } from "./embeddings/embedder.ts";
import { type AppParts, contextLengthOf } from "./parts.ts";

type Common = { object: "model"; created: number; owned_by: string };

export function commonOf(nowMs: number): Common {
  return { object: "model", created: Math.floor(nowMs / 1000), owned_by: "switchyard" };
}

/** The base, then adapters with their base as `parent`; and ours, what they are and where. */
export function modelCards(parts: AppParts) {
  const { model, adapters, engine, encoder } = parts;
  const card = commonOf(parts.nowMs());
  const { slots } = engine.stats();
  return [
    {
      id: model.id,
      ...card,
      root: model.root,
      parent: null,
      max_model_len: contextLengthOf(engine),
    },
    ...(encoder ? [encoderCard(encoder, card)] : []),
    ...adapters.names().map(({ name, path, digest, pinned }) => ({
      id: name,
      ...card,
      root: path,
      parent: model.id,
      max_model_len: null,
      digest,
      pinned,
      residency: { slot: slots.includes(digest), ...adapters.residency(digest) },
    })),
  ];
}

/** What only embeds is a model like others in the list. */
export function encoderCard({ id, tokensMax }: ServedEncoder, card: Common) {
  return { id, ...card, root: id, parent: null, max_model_len: tokensMax };
}
