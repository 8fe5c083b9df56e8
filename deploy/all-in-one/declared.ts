/** What the settings declare, in the registry's words: models, routes and prices. */
import type { ImportedModel } from "../../adapter-server/models/import-model.ts";
import type { Declared } from "../../registry/bootstrap.ts";
import { formatUsd, parseUsd } from "../../sdk/protocol/money.ts";
import { meters, quotedAs } from "../../sdk/protocol/usage.ts";
import type { ModelPrices, Settings } from "../settings/schema.ts";

/** @param imported the embedded base as the engine loaded it; absent when there is none */
export function toDeclared(settings: Settings, imported: ImportedModel | undefined): Declared {
  const { models, embedded, routes } = settings;
  const remote = models.map((model) => ({
    id: model.id,
    upstream: model.upstream,
    upstreamModel: model.upstreamModel ?? model.id,
    ownedBy: model.ownedBy ?? model.upstream,
    ...(model.contextLength !== undefined && { contextLength: model.contextLength }),
    ...(model.maxOutputTokens !== undefined && { maxOutputTokens: model.maxOutputTokens }),
    ...(model.tokenizer !== undefined && { tokenizer: model.tokenizer }),
  }));
  const base =
    embedded && imported
      ? [
          {
            id: embedded.id,
            upstream: "embedded",
            upstreamModel: embedded.id,
            ownedBy: "switchyard",
            contextLength: imported.dims.contextLength,
            base: { digest: imported.baseDigest, shape: imported.shape },
          },
        ]
      : [];
  return {
    models: [...remote, ...base],
    routes,
    prices: [
      ...models.flatMap(({ id, upstream, prices }) =>
        toPriceRows(id, isOurEngine(settings, upstream) ? withCacheRead(prices) : prices),
      ),
      ...(embedded ? toPriceRows(embedded.id, withCacheRead(embedded.prices)) : []),
    ],
  };
}

function isOurEngine({ upstreams }: Settings, name: string): boolean {
  return upstreams.some((upstream) => upstream.name === name && upstream.type === "adapter-server");
}

/** Our engine reports cached tokens; they cost what input costs where nobody gives a discount for them. */
function withCacheRead(prices: ModelPrices | undefined): ModelPrices | undefined {
  const { batch } = prices ?? {};
  const discounted = batch?.input === undefined ? batch : { cache_read: batch.input, ...batch };
  return prices && { cache_read: prices.input, ...prices, batch: discounted };
}

/** Reasoning tokens are billed as output where no price of their own is given, as every provider does. */
function toPriceRows(model: string, prices: ModelPrices | undefined) {
  if (!prices) return [];
  const { source, validFrom, batch, ...own } = prices;
  const about = { model, source, ...(validFrom !== undefined && { validFrom }) };
  return [
    ...toPrices(own).map((price) => ({ ...about, ...price })),
    ...toPrices(batch ?? {}).map((price) => ({ ...about, tier: "batch" as const, ...price })),
  ];
}

function toPrices({ image, audio_second, ...rest }: NonNullable<ModelPrices["batch"]>) {
  const quoted = { reasoning: rest.output, ...rest, images: image, audio_ms: audio_second };
  return meters.flatMap((meter) => {
    const usd = quoted[meter];
    if (usd === undefined) return [];
    // The settings take no more places than leave a whole number: the division is exact.
    const usdPerToken = formatUsd(parseUsd(usd) / quotedAs(meter).per);
    return [{ meter, usdPerToken }];
  });
}
