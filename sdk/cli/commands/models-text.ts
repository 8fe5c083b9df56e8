/** How the models of this machine are shown to people. */
import type {
  ImportedFacts,
  ListedImport,
  LocalLibrary,
  ModelFacts,
  Pulled,
  PullPlan,
  Removal,
  TensorGroup,
  Verdict,
} from "../local-models.ts";
import { bytes, integer, moment } from "../output/format.ts";
import { formatTable } from "../output/table.ts";
import type { Colours } from "../output/terminal.ts";
import { quantizationText, singleStreamText } from "./quantization-text.ts";

export function libraryText(library: LocalLibrary, colours: Colours): string {
  const { imports, encoders, sources, unfinished } = library;
  if (imports.length + encoders.length + sources.length + unfinished.length === 0) {
    return "Nothing was imported or pulled. Begin with 'switchyard models import FOLDER' or 'models pull hf:OWNER/NAME'.";
  }
  const parts: string[] = [];
  if (imports.length > 0) {
    parts.push(
      formatTable(
        imports,
        [
          { title: "IMPORT", cell: ({ digest }) => digest.slice(0, 12) },
          { title: "FORMAT", cell: ({ format }) => format ?? "-" },
          { title: "PARAMETERS", cell: ({ parameters }) => integer(parameters), right: true },
          { title: "SIZE", cell: ({ sizeBytes }) => bytes(sizeBytes), right: true },
          { title: "IMPORTED (UTC)", cell: ({ importedAt }) => moment(importedAt) },
          { title: "IN USE", cell: usedByText },
          { title: "SOURCE", cell: ({ source }) => source ?? "unknown" },
        ],
        colours,
      ),
    );
  }
  if (encoders.length > 0) {
    parts.push(
      formatTable(
        encoders,
        [
          { title: "ENCODER", cell: ({ digest }) => digest.slice(0, 12) },
          { title: "SIZE", cell: ({ sizeBytes }) => bytes(sizeBytes), right: true },
          { title: "IMPORTED (UTC)", cell: ({ importedAt }) => moment(importedAt) },
          { title: "IN USE", cell: usedByText },
          { title: "SOURCE", cell: ({ source }) => source ?? "unknown" },
        ],
        colours,
      ),
    );
  }
  if (sources.length > 0) {
    parts.push(
      formatTable(
        sources,
        [
          { title: "PULLED", cell: ({ name }) => name },
          { title: "REVISION", cell: ({ revisions }) => revisions.join(", ") || "-" },
          { title: "SIZE", cell: ({ sizeBytes }) => bytes(sizeBytes), right: true },
          { title: "LICENCE", cell: ({ licence }) => plain(licence) ?? "-" },
          { title: "PULLED (UTC)", cell: ({ pulledAt }) => moment(pulledAt) },
        ],
        colours,
      ),
    );
  }
  if (unfinished.length > 0) {
    parts.push(
      formatTable(
        unfinished,
        [
          { title: "UNFINISHED PULL", cell: ({ repo }) => `hf:${repo}` },
          { title: "SO FAR", cell: ({ sizeBytes }) => bytes(sizeBytes), right: true },
        ],
        colours,
      ),
    );
  }
  return parts.join("\n\n");
}

export function factsText(facts: ModelFacts, colours: Colours): string {
  const lines: [string, string][] = [
    ["architecture", plain(facts.architecture) ?? "unknown"],
    ["parameters", integer(facts.parameters)],
    ["context", `${integer(facts.contextLength)} tokens`],
    [
      "shape",
      `${integer(facts.layers)} layers, hidden ${integer(facts.hiddenSize)}, vocabulary ${integer(facts.vocabSize)}`,
    ],
    ["tokenizer", tokenizerText(facts)],
    [
      "chat template",
      facts.hasChatTemplate === undefined ? "unknown" : facts.hasChatTemplate ? "yes" : "none",
    ],
    ["licence", plain(facts.licence) ?? "the folder does not say"],
    ["source", facts.source ?? "gone"],
  ];
  const width = Math.max(...lines.map(([name]) => name.length));
  const head = lines.map(([name, value]) => `${colours.dim(name.padEnd(width))}  ${value}`);
  const stored = facts.stored ? ["", "as it is stored", groupsText(facts.stored, colours)] : [];
  const imports = facts.imports.flatMap((one) => [
    "",
    `${colours.bold(`import ${one.digest.slice(0, 12)}`)}  ${one.format ?? "unknown format"}, ${bytes(one.sizeBytes)}, ${moment(one.importedAt)}${one.usedBy.length > 0 ? `, in use by ${one.usedBy.join(", ")}` : ""}`,
    groupsText(one.groups, colours),
    ...(one.quantization ? [quantizationText(one.quantization, colours)] : []),
  ]);
  return [colours.bold(facts.name), ...head, ...stored, ...imports].join("\n");
}

export function verdictsText(verdicts: readonly Verdict[], colours: Colours): string {
  if (verdicts.length === 0) return "There is nothing to verify.";
  const paint = { ok: colours.green, damaged: colours.red, unknown: colours.yellow };
  return verdicts
    .flatMap(({ what, result, problems }) => [
      `${paint[result](result.padEnd(7))}  ${what}`,
      ...problems.map((problem) => `         ${problem}`),
    ])
    .join("\n");
}

export function removalText(removal: Removal): string {
  return removal
    .map(({ what, sizeBytes, folder }) => `${what}  ${bytes(sizeBytes)}  ${folder}`)
    .join("\n");
}

export function importedText(
  { digest, format, singleStream, sizeBytes, folder }: ImportedFacts,
  colours: Colours,
) {
  const head = `${colours.bold(digest.slice(0, 12))}  ${format}, ${bytes(sizeBytes)}`;
  const single = singleStream ? `\n${singleStreamText(singleStream)}` : "";
  return `${head}${single}\n${colours.dim(folder)}`;
}

/** What a pull will fetch, before it begins. */
export function planText(plan: PullPlan, colours: Colours): string {
  const { name, files, totalBytes, hereBytes, licence, warning } = plan;
  const here = hereBytes > 0 ? `, ${bytes(hereBytes)} of it here already` : "";
  return [
    `${colours.bold(name)}  ${files.length} files, ${bytes(totalBytes)}${here}; licence: ${plain(licence) ?? "not told"}`,
    ...files.map((file) => colours.dim(`  ${file.name}  ${bytes(file.sizeBytes)}`)),
    ...(warning === undefined ? [] : [`${colours.yellow("warning:")} ${warning}`]),
  ].join("\n");
}

export function pulledText(pulled: Pulled, colours: Colours): string {
  const { name, folder, sizeBytes, wasHere } = pulled;
  const head = `${colours.bold(name)}  ${bytes(sizeBytes)}, ${wasHere ? "was here already" : "every digest is right"}`;
  return `${head}\n${colours.dim(folder)}\nNext: switchyard models import ${name}`;
}

function groupsText(groups: readonly TensorGroup[], colours: Colours): string {
  return formatTable(
    groups,
    [
      { title: "TENSORS", cell: ({ group }) => group },
      { title: "FORMAT", cell: ({ format }) => format },
      { title: "COUNT", cell: ({ tensors }) => integer(tensors), right: true },
      { title: "PARAMETERS", cell: ({ parameters }) => integer(parameters), right: true },
      { title: "SIZE", cell: ({ sizeBytes }) => bytes(sizeBytes), right: true },
    ],
    colours,
  );
}

function tokenizerText({ tokenizer, source }: ModelFacts): string {
  if (!tokenizer) return source === undefined ? "unknown" : "none that can be read from here";
  return `${plain(tokenizer.type)}, ${integer(tokenizer.tokens)} tokens`;
}

function usedByText({ usedBy }: Pick<ListedImport, "usedBy">): string {
  return usedBy.length > 0 ? usedBy.join(", ") : "-";
}

/** What strangers wrote, without the characters that a terminal obeys. */
function plain(text: string | undefined): string | undefined {
  return text?.replace(/\p{Cc}/gu, "").slice(0, 80);
}
