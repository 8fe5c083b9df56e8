/** Signs each request as AWS wants it, Signature Version 4. */
import { Sha256 } from "@aws-crypto/sha256-js";
import { SignatureV4 } from "@smithy/signature-v4";
import type { Transport } from "../transport.ts";

export type AwsCredentials = {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
};

export type SignedOptions = {
  baseUrl: string;
  region: string;
  credentials: AwsCredentials;
  now: () => number;
};

/** The address is encoded once as it is sent, and a second time in what is signed; the library does the latter. */
export function signed(transport: Transport, options: SignedOptions): Transport {
  const { baseUrl, region, credentials, now } = options;
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const signer = new SignatureV4({
    service: "bedrock",
    region,
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) },
    sha256: Sha256,
  });
  const { protocol, hostname, host, pathname } = new URL(baseUrl);
  const prefix = pathname.replace(/\/+$/, "");
  return {
    ...transport,
    async send(request) {
      const { headers } = await signer.sign(
        {
          method: "POST",
          protocol,
          hostname,
          path: prefix + request.path,
          query: {},
          headers: { ...request.headers, host },
          body: request.body,
        },
        { signingDate: new Date(now()) },
      );
      return await transport.send({ ...request, headers });
    },
  };
}
