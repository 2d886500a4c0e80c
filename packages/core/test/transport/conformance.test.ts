import { describe, it } from "vitest";
import { transportConformance, type TransportFixture } from "../../src/testing/transport-conformance.ts";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import { selfSigned } from "../../src/transport/http/self-signed.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import { announced } from "../support/announced.ts";

function http(server: HttpTransportOptions, client: HttpTransportOptions): () => Promise<TransportFixture> {
  return async () => {
    const transport = httpTransport(server);
    return {
      transport,
      connect: () => httpTransport(client),
      [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
    };
  };
}

function fast(server: HttpTransportOptions, client: HttpTransportOptions): () => Promise<TransportFixture> {
  return async () => ({ ...(await http(server, client)()), connect: () => announced(httpTransport(client)) });
}

describe("memory", () => {
  transportConformance({ describe, it }, async () => {
    const transport = memoryTransport();
    return { transport, [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose]() };
  });
});

describe("http", () => {
  transportConformance({ describe, it }, http({}, {}));
});

describe("http over TLS", () => {
  const server = selfSigned({ hosts: ["127.0.0.1", "localhost"] });
  transportConformance({ describe, it }, http({ tls: server }, { tls: { ca: server.cert } }));
});

describe("http over mutual TLS", () => {
  const server = selfSigned({ hosts: ["127.0.0.1", "localhost"] });
  const client = selfSigned({ hosts: ["client"] });
  transportConformance(
    { describe, it },
    http({ tls: { ...server, ca: client.cert, requestClientCert: true } }, { tls: { ...client, ca: server.cert } }),
  );
});

describe("the fast wire", () => {
  transportConformance({ describe, it }, fast({}, {}));
});

describe("the fast wire over TLS", () => {
  const server = selfSigned({ hosts: ["127.0.0.1", "localhost"] });
  transportConformance({ describe, it }, fast({ tls: server }, { tls: { ca: server.cert } }));
});

describe("the fast wire offered to a listener without it", () => {
  transportConformance({ describe, it }, fast({ wire: "http" }, {}));
});
