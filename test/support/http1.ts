/** How AWS's client reaches a server that speaks HTTP/1.1; by itself it speaks HTTP/2 to Bedrock. */
import { type IncomingMessage, request } from "node:http";

type Sent = {
  method: string;
  protocol: string;
  hostname: string;
  port?: number;
  path: string;
  query?: Readonly<Record<string, unknown>>;
  headers: Record<string, string>;
  body?: unknown;
};

export const http1 = {
  metadata: { handlerProtocol: "http/1.1" },
  handle(sent: Sent): Promise<{ response: never }> {
    const { method, hostname, port, path, headers, body } = sent;
    return new Promise((resolve, reject) => {
      const calling = request({ method, hostname, port, path, headers }, (answered) => {
        const response = {
          statusCode: answered.statusCode ?? 0,
          headers: textHeaders(answered),
          body: answered,
        };
        resolve({ response: response as never });
      });
      calling.on("error", reject);
      calling.end(body as string | Uint8Array | undefined);
    });
  },
};

function textHeaders({ headers }: IncomingMessage): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, [value].flat().join(", ")]),
  );
}
