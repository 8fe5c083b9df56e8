/** How an import's rounding is shown: which formats, why, how fast they are here, and what they cost. */
import type { Quantization, QuantizationCost, SingleStream } from "../local-models.ts";
import { integer } from "../output/format.ts";
import { formatTable } from "../output/table.ts";
import type { Colours } from "../output/terminal.ts";

export function quantizationText(quantization: Quantization, colours: Colours): string {
  const { reason, cost, candidates, speeds, singleStream } = quantization;
  const line = (name: string, text: string) => `${colours.dim(name.padEnd(7))}  ${text}`;
  return [
    "",
    line("format", reason),
    line("cost", costText(cost)),
    ...(singleStream ? [line("single", singleStreamText(singleStream))] : []),
    "",
    errorsText(quantization, colours),
    ...(candidates.length > 0 ? ["", candidatesText(quantization, colours)] : []),
    ...(speeds.length > 0 ? ["", speedsText(quantization, colours)] : []),
  ].join("\n");
}

/** What became of the weights for steps in which a single sequence decodes. */
export function singleStreamText({ format, reason, cost }: SingleStream): string {
  const costs = cost ? `; ${costText(cost)}` : "";
  return `${format} for steps of one sequence, ${reason}${costs}`;
}

function costText({ positions, klMean, kl99, top1 }: QuantizationCost): string {
  return `KL divergence ${number(klMean)} (99 of 100 below ${number(kl99)}), the same likeliest token in ${percent(top1)}, over ${integer(positions)} positions of the calibration text, against float32`;
}

/** Layers together, matrix by matrix. */
function errorsText({ matrices }: Quantization, colours: Colours): string {
  const groups = new Map<string, { site: string; format: string; errors: number[] }>();
  for (const { name, format, error } of matrices) {
    const site = name.replace(/^layer\d+\./, "");
    const group = groups.get(`${site} ${format}`) ?? { site, format, errors: [] };
    group.errors.push(error);
    groups.set(`${site} ${format}`, group);
  }
  return formatTable(
    [...groups.values()],
    [
      { title: "MATRICES", cell: ({ site }) => site },
      { title: "FORMAT", cell: ({ format }) => formatName(format) },
      { title: "COUNT", cell: ({ errors }) => integer(errors.length), right: true },
      { title: "ERROR, MEAN", cell: ({ errors }) => percent(mean(errors)), right: true },
      { title: "LARGEST", cell: ({ errors }) => percent(Math.max(...errors)), right: true },
    ],
    colours,
  );
}

function candidatesText({ candidates }: Quantization, colours: Colours): string {
  return formatTable(
    candidates,
    [
      { title: "CANDIDATE", cell: ({ name }) => name },
      { title: "ERROR", cell: ({ error }) => percent(error), right: true },
      { title: "TIME", cell: ({ relativeTime }) => `${relativeTime.toFixed(2)} ×`, right: true },
    ],
    colours,
  );
}

function speedsText({ speeds, measuredRows }: Quantization, colours: Colours): string {
  return formatTable(
    speeds,
    [
      { title: "MEASURED HERE", cell: (speed) => `${speed.in} × ${speed.out}` },
      { title: "FORMAT", cell: ({ format }) => formatName(format) },
      ...measuredRows.map((rows, index) => ({
        title: `${rows} ${rows === 1 ? "ROW" : "ROWS"}, MS`,
        cell: ({ ms }: Quantization["speeds"][number]) => number(ms[index] ?? Number.NaN),
        right: true,
      })),
    ],
    colours,
  );
}

function formatName(format: string): string {
  const [, bits, blockSize] = /^block(\d)x(\d+)$/.exec(format) ?? [];
  if (bits !== undefined) return `int${bits} in blocks of ${blockSize}`;
  return format === "smooth" ? "int8 rows, smoothed" : format;
}

function number(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(2))) : "-";
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
