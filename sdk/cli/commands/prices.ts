/** `switchyard prices`: dollars for tokens, images, seconds and characters, effective from a date. */
import { type Command, InvalidArgumentError } from "commander";
import { formatUsd, parseUsd } from "../../protocol/money.ts";
import { type Meter, meters, quotedAs } from "../../protocol/usage.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import { moment } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

/** Each meter's dollars as they are quoted, as an exact price for one of what it counts. */
type AddOptions = { from?: string; source: string; batch?: true; cachedResponse?: true } & {
  [option: string]: string | true | undefined;
};

export function addPrices(program: Command, cli: Cli): void {
  const prices = program.command("prices").description("what tokens cost");

  prices
    .command("list")
    .description("all prices, with the date they hold from")
    .option("--model <model>", "of one model")
    .action(async ({ model }: { model?: string }) => {
      cli.show(await cli.client().prices.list({ model }), (list) =>
        formatTable(
          list,
          [
            { title: "MODEL", cell: (one) => one.model },
            { title: "METER", cell: ({ meter, tier }) => (tier ? `${meter} (${tier})` : meter) },
            {
              title: "USD",
              cell: ({ meter, usdPerToken }) =>
                formatUsd(parseUsd(usdPerToken) * quotedAs(meter).per),
              right: true,
            },
            { title: "FOR A", cell: ({ meter }) => quotedAs(meter).unit },
            { title: "FROM (UTC)", cell: ({ validFrom }) => moment(validFrom) },
            { title: "SOURCE", cell: ({ source }) => source },
          ],
          cli.terminal.colours,
        ),
      );
    });

  const add = prices
    .command("add")
    .description("add prices; none is ever changed, a later one holds from its date")
    .argument("<model>", "a model's id, or base:adapter for an adapter's own price");
  for (const meter of meters) {
    const { unit } = quotedAs(meter);
    const words = unit === "million tokens" ? `million ${meter.replaceAll("_", " ")} tokens` : unit;
    const one = /^[aeiou]/.test(words) ? "an" : "a";
    add.option(
      `--${meter.replaceAll("_", "-")} <usd>`,
      `dollars for ${one} ${words}`,
      (usd: string) => perUnit(usd, meter),
    );
  }
  add
    .option(
      "--from <timestamp>",
      'when they begin to hold, such as "2026-12-01T00:00:00Z"; else now',
    )
    .option("--batch", "of a batch's requests, which else cost what others cost")
    .option(
      "--cached-response",
      "of answers that the response cache gives again, which else are free",
    )
    .option("--source <text>", "where the price is written", "switchyard prices add")
    .action(async (model: string, options: AddOptions) => {
      if (options.batch && options.cachedResponse) {
        throw new UsageError("A price is of a batch's requests or of kept answers, not of both.");
      }
      const tier = options.batch
        ? ("batch" as const)
        : options.cachedResponse && ("cached_response" as const);
      const rows = meters.flatMap((meter) => {
        const usdPerToken = options[optionOf(meter)];
        const { source, from } = options;
        return typeof usdPerToken !== "string"
          ? []
          : [
              {
                model,
                meter,
                usdPerToken,
                source,
                ...(tier && { tier }),
                ...(from === undefined ? {} : { validFrom: from }),
              },
            ];
      });
      if (rows.length === 0) {
        throw new UsageError(
          "No price was given. Write at least one, such as --input 0.15 --output 0.60.",
        );
      }
      await cli.client().prices.add(rows);
      cli.show(
        rows,
        () => `${rows.length} price${rows.length === 1 ? "" : "s"} of ${model} added.`,
      );
    });
}

/** As commander names an option's value: `--cache-read` is `cacheRead`. */
function optionOf(meter: Meter): string {
  return meter.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
}

/** Exactly, or not at all: one token's price has at most 12 places. */
function perUnit(usd: string, meter: Meter): string {
  const { per, unit } = quotedAs(meter);
  const places = 12 - String(per).length + 1;
  if (!new RegExp(`^\\d{1,9}(\\.\\d{1,${places}})?$`).test(usd)) {
    throw new InvalidArgumentError(
      `Write dollars for a ${unit} with at most ${places} decimal places, such as 0.15.`,
    );
  }
  return formatUsd(parseUsd(usd) / per);
}
