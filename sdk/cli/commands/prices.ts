/** `switchyard prices`: dollars for tokens, effective from a date. */
import { type Command, InvalidArgumentError } from "commander";
import { formatUsd, parseUsd } from "../../protocol/money.ts";
import { type Meter, meters } from "../../protocol/usage.ts";
import type { Cli } from "../cli.ts";
import { UsageError } from "../failure.ts";
import { moment } from "../output/format.ts";
import { formatTable } from "../output/table.ts";

/** Each meter's dollars for a million tokens, as an exact price for one token. */
type AddOptions = { from?: string; source: string } & Partial<Record<string, string>>;

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
            { title: "METER", cell: ({ meter }) => meter },
            {
              title: "USD PER MILLION",
              cell: ({ usdPerToken }) => formatUsd(parseUsd(usdPerToken) * 1_000_000n),
              right: true,
            },
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
    const words = meter.replace("_", " ");
    add.option(
      `--${meter.replace("_", "-")} <usd>`,
      `dollars for a million ${words} tokens`,
      perToken,
    );
  }
  add
    .option(
      "--from <timestamp>",
      'when they begin to hold, such as "2026-12-01T00:00:00Z"; else now',
    )
    .option("--source <text>", "where the price is written", "switchyard prices add")
    .action(async (model: string, options: AddOptions) => {
      const rows = meters.flatMap((meter) => {
        const usdPerToken = options[optionOf(meter)];
        const { source, from } = options;
        return usdPerToken === undefined
          ? []
          : [
              {
                model,
                meter,
                usdPerToken,
                source,
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
  return meter.replace(/_(.)/, (_, letter: string) => letter.toUpperCase());
}

/** Exactly, or not at all: a token's price has at most 12 places. */
function perToken(usdPerMillion: string): string {
  if (!/^\d{1,9}(\.\d{1,6})?$/.test(usdPerMillion)) {
    throw new InvalidArgumentError(
      "Write dollars for a million tokens with at most 6 decimal places, such as 0.15.",
    );
  }
  return formatUsd(parseUsd(usdPerMillion) / 1_000_000n);
}
