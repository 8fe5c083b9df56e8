/** A collector that takes OTLP over HTTP in JSON, checks it by the protocol, and remembers it. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";

const nanos = z.string().regex(/^\d{19}$/);
const attribute = z.strictObject({
  key: z.string().min(1),
  value: z.union([
    z.strictObject({ stringValue: z.string() }),
    z.strictObject({ boolValue: z.boolean() }),
    z.strictObject({ intValue: z.string().regex(/^-?\d+$/) }),
    z.strictObject({ doubleValue: z.number() }),
  ]),
});
const attributes = z.array(attribute);
const id = (digits: number) => z.string().regex(new RegExp(`^(?!0+$)[0-9a-f]{${digits}}$`));
const span = z.strictObject({
  traceId: id(32),
  spanId: id(16),
  parentSpanId: id(16).optional(),
  flags: z.int(),
  name: z.string().min(1),
  kind: z.int().min(1).max(5),
  startTimeUnixNano: nanos,
  endTimeUnixNano: nanos,
  attributes,
  status: z.strictObject({ code: z.int().optional(), message: z.string().optional() }),
});
const point = z.strictObject({
  startTimeUnixNano: nanos,
  timeUnixNano: nanos,
  attributes,
  sum: z.number(),
  count: z.string().regex(/^\d+$/),
  bucketCounts: z.array(z.string().regex(/^\d+$/)),
  explicitBounds: z.array(z.number()),
});
const metric = z.strictObject({
  name: z.string().min(1),
  unit: z.string(),
  histogram: z.strictObject({ aggregationTemporality: z.literal(2), dataPoints: z.array(point) }),
});
const resource = z.strictObject({ attributes });
const scope = z.strictObject({ name: z.string() });
const traces = z.strictObject({
  resourceSpans: z.array(
    z.strictObject({
      resource,
      scopeSpans: z.array(z.strictObject({ scope, spans: z.array(span) })),
    }),
  ),
});
const metrics = z.strictObject({
  resourceMetrics: z.array(
    z.strictObject({
      resource,
      scopeMetrics: z.array(z.strictObject({ scope, metrics: z.array(metric) })),
    }),
  ),
});

/** See https://opentelemetry.io/docs/specs/otlp/#otlphttp and the protocol's `.proto` files, read on 2026-11-22. */
export type ReceivedSpan = Omit<z.infer<typeof span>, "attributes"> & {
  attributes: Record<string, unknown>;
  resource: Record<string, unknown>;
};
export type ReceivedPoint = Omit<z.infer<typeof point>, "attributes"> & {
  name: string;
  attributes: Record<string, unknown>;
};

export type OtlpCollector = {
  url: string;
  spans: ReceivedSpan[];
  /** The newest of each metric and set of attributes. */
  points: ReceivedPoint[];
  headers: Record<string, string | string[] | undefined>[];
  /** What was not as the protocol has it. */
  faults: string[];
  /** What it answers. */
  status: number;
  close(): Promise<void>;
};

export async function startOtlpCollector(): Promise<OtlpCollector> {
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    collector.headers.push(request.headers);
    if (collector.status === 200) take(request.url ?? "", text);
    response.writeHead(collector.status, { "content-type": "application/json" }).end("{}");
  });
  const take = (path: string, text: string) => {
    const schema = path === "/v1/traces" ? traces : path === "/v1/metrics" ? metrics : z.never();
    const read = schema.safeParse(JSON.parse(text));
    if (!read.success) {
      collector.faults.push(`${path}: ${z.prettifyError(read.error)}`);
      return;
    }
    if ("resourceSpans" in read.data) {
      for (const { resource, scopeSpans } of read.data.resourceSpans) {
        for (const one of scopeSpans.flatMap(({ spans }) => spans)) {
          collector.spans.push({
            ...one,
            attributes: plain(one.attributes),
            resource: plain(resource.attributes),
          });
        }
      }
      return;
    }
    collector.points = read.data.resourceMetrics
      .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((it) => it.metrics))
      .flatMap(({ name, histogram }) =>
        histogram.dataPoints.map((one) => ({ ...one, name, attributes: plain(one.attributes) })),
      );
  };
  const collector: OtlpCollector = {
    url: "",
    spans: [],
    points: [],
    headers: [],
    faults: [],
    status: 200,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  collector.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return collector;
}

function plain(list: z.infer<typeof attributes>): Record<string, unknown> {
  return Object.fromEntries(
    list.map(({ key, value }) => [
      key,
      "intValue" in value ? Number(value.intValue) : Object.values(value)[0],
    ]),
  );
}
