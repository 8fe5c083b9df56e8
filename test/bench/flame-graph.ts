/** A profile of V8's as a flame graph that a browser shows, and as the share of each part of the program. */

/** What `Profiler.stop` gives, as far as it is read here. */
export type Profile = {
  nodes: readonly ProfileNode[];
  samples: readonly number[];
  /** Microseconds from each sample to the one before it. */
  timeDeltas: readonly number[];
};
type ProfileNode = {
  id: number;
  callFrame: { functionName: string; url: string; lineNumber: number };
  children?: readonly number[];
};

type Frame = { node: ProfileNode; own: number; total: number; children: Frame[] };

/**
 * @param about  a line above it
 * @returns SVG; frames of less than a share of all are left out
 */
export function drawFlameGraph(profile: Profile, about: string): string {
  const root = framesOf(profile);
  const least = root.total * shareMin;
  const boxes: string[] = [];
  let depthMax = 0;
  const draw = (frame: Frame, x: number, depth: number): void => {
    depthMax = Math.max(depthMax, depth);
    const width = (frame.total / root.total) * imageWidth;
    boxes.push(drawBox(frame, { x, width, depth, share: frame.total / root.total }));
    let at = x;
    for (const child of frame.children.toSorted((a, b) => b.total - a.total)) {
      if (child.total < least) continue;
      draw(child, at, depth + 1);
      at += (child.total / root.total) * imageWidth;
    }
  };
  draw(root, 0, 0);
  const height = (depthMax + 1) * rowHeight + headHeight;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${imageWidth} ${height}" font-family="monospace" font-size="9">`,
    `<title>Flame graph</title><rect width="100%" height="100%" fill="#fff"/><text x="4" y="12">${escaped(about)}</text>`,
    ...boxes,
    "</svg>",
  ].join("\n");
}

/** Of the time that was not idle, what each part took itself; what Node does for one is that one's. */
export function sharesOfParts(profile: Profile): { part: string; share: number }[] {
  const root = framesOf(profile);
  const parts = new Map<string, number>();
  const walk = (frame: Frame, above: string): void => {
    const part = partOf(frame.node) ?? above;
    parts.set(part, (parts.get(part) ?? 0) + frame.own);
    for (const child of frame.children) walk(child, part);
  };
  walk(root, "node");
  return [...parts]
    .map(([part, own]) => ({ part, share: own / root.total }))
    .sort((a, b) => b.share - a.share);
}

/** Frames of one function under one caller are one, wherever the calls stood. */
function framesOf({ nodes, samples, timeDeltas }: Profile): Frame {
  const own = new Map<number, number>();
  for (const [index, id] of samples.entries()) {
    own.set(id, (own.get(id) ?? 0) + (timeDeltas[index] ?? 0));
  }
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const merge = (alike: readonly ProfileNode[]): Frame => {
    const groups = new Map<string, ProfileNode[]>();
    for (const node of alike) {
      for (const id of node.children ?? []) {
        const child = byId.get(id);
        if (!child || child.callFrame.functionName === "(idle)") continue;
        groups.set(nameOf(child), [...(groups.get(nameOf(child)) ?? []), child]);
      }
    }
    const children = [...groups.values()].map(merge);
    const self = alike.reduce((sum, { id }) => sum + (own.get(id) ?? 0), 0);
    const total = children.reduce((sum, child) => sum + child.total, self);
    return { node: alike[0] as ProfileNode, own: self, total, children };
  };
  return merge(nodes.slice(0, 1));
}

function drawBox(
  { node }: Frame,
  { x, width, depth, share }: { x: number; width: number; depth: number; share: number },
): string {
  const y = headHeight + depth * rowHeight;
  const name = nameOf(node);
  const chars = Math.floor(width / charWidth);
  const label =
    chars < 4
      ? ""
      : `<text x="${(x + 2).toFixed(1)}" y="${y + 9}">${escaped(name.slice(0, chars - 1))}</text>`;
  return (
    `<g><title>${escaped(name)} ${(100 * share).toFixed(1)} %</title>` +
    `<rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(0.2, width - 0.3).toFixed(1)}" height="${rowHeight - 1}" fill="${colours[kindOf(node)]}"/>${label}</g>`
  );
}

function nameOf({ callFrame: { functionName, url } }: ProfileNode): string {
  const file = fileOf(url);
  return `${functionName || "anonymous"}${file === "" ? "" : ` ${file}`}`;
}

/** From the folder that says most; nothing of where a checkout lies. */
function fileOf(url: string): string {
  const path = url.replace(/^file:\/\//, "").replace(/\?.*$/, "");
  return (
    /(?:node_modules\/(.*)|\/((?:gateway|sdk|registry|deploy)\/.*))$/
      .exec(path)
      ?.slice(1)
      .find(Boolean) ?? (path.startsWith("node:") ? path : "")
  );
}

function kindOf({ callFrame: { url } }: ProfileNode): keyof typeof colours {
  if (/node_modules\//.test(url)) return "packages";
  return /\/(?:gateway|sdk)\//.test(url) ? "ours" : "node";
}

/** The folder of ours, or the package, that a function is of; undefined for Node's own. */
function partOf({ callFrame: { url, functionName } }: ProfileNode): string | undefined {
  if (functionName === "(garbage collector)") return "garbage collection";
  const file = fileOf(url);
  if (file === "" || file.startsWith("node:")) return undefined;
  const [first = "", second = "", third] = file.split("/");
  if (first.startsWith("@")) return `${first}/${second}`;
  if (first === "gateway" || first === "sdk")
    return third === undefined ? first : `${first}/${second}`;
  return first;
}

function escaped(text: string): string {
  return text.replace(/[<>&"]/g, (char) => `&#${char.charCodeAt(0)};`);
}

const colours = { ours: "#f4a259", packages: "#8cb369", node: "#c9d6df" };
const imageWidth = 1200;
const rowHeight = 12;
const headHeight = 18;
const charWidth = 5.4;
const shareMin = 0.002;
