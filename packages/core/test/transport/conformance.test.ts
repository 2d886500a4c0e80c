import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { transportConformance, type TransportFixture } from "@micro/testing";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import { selfSigned } from "../../src/net/self-signed.ts";
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
  return async () => ({
    ...(await http(server, client)()),
    connect: () => announced(httpTransport({ direct: false, ...client })),
  });
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

describe("within one transport", () => {
  transportConformance({ describe, it }, async () => {
    const transport = announced(httpTransport());
    return { transport, [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose]() };
  });

  describe("and between two of one process", () => {
    transportConformance({ describe, it }, async () => {
      const transport = httpTransport();
      return {
        transport,
        connect: () => announced(httpTransport()),
        [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
      };
    });
  });

  it("no connection is made, whichever way the address names this machine, until the listener closes", async () => {
    const transport = httpTransport();
    const listener = await transport.listen((exchange) => exchange.reply({ body: Buffer.from(exchange.remote) }), {
      address: ":0",
    });
    const port = listener.address.slice(listener.address.lastIndexOf(":"));
    const request = { service: "a", endpoint: "A.B", contentType: "x", metadata: undefined, body: new Uint8Array(0) };
    const ask = async (address: string, wire: string | undefined) =>
      Buffer.from(
        (await transport.call(address, request, { wire, deadline: performance.now() + 5_000 })).body,
      ).toString();
    for (const host of ["127.0.0.1", "localhost", "[::1]", ""])
      expect(await ask(`${host}${port}`, transport.wire)).toBe(listener.address);
    expect(await ask(`127.0.0.1${port}`, undefined)).not.toBe(listener.address);
    await listener.close();
    await transport[Symbol.asyncDispose]();
    await listener[Symbol.asyncDispose]();
  });
});

describe("unix domain sockets", () => {
  const folder = mkdtempSync(join(tmpdir(), "micro-socket-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  let count = 0;
  const fixture = (own: () => Promise<TransportFixture>) => async () => ({
    ...(await own()),
    address: `unix:${join(folder, `${count++}`)}`,
    unreachable: `unix:${join(folder, "nobody")}`,
  });
  const skip = { "a taken address cannot be listened on, a range finds the next": "a path has no range" };
  for (const [name, own] of [
    ["over HTTP", http({}, {})],
    ["on the fast wire", fast({}, {})],
  ] as const)
    describe(name, () => transportConformance({ describe, it }, fixture(own), { skip }));

  it("takes over the file a crashed process left, and not that of a living one", async () => {
    const path = join(folder, "left");
    const { signal } = spawnSync(process.execPath, [
      "-e",
      `require("node:net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`,
    ]);
    expect([signal, existsSync(path)]).toEqual(["SIGKILL", true]);
    const transport = httpTransport();
    const listener = await transport.listen(() => {}, { address: `unix:${path}` });
    expect(listener.address).toBe(`unix:${path}`);
    await expect(transport.listen(() => {}, { address: `unix:${path}` })).rejects.toMatchObject({
      code: "unavailable",
    });
    await listener[Symbol.asyncDispose]();
    expect(existsSync(path)).toBe(false);
    await transport[Symbol.asyncDispose]();
  });

  it("removes nothing that is no socket, nor a link to anything", async () => {
    const transport = httpTransport();
    const file = join(folder, "data.db");
    const link = join(folder, "link");
    writeFileSync(file, "precious");
    symlinkSync(file, link);
    for (const path of [file, link, folder])
      await expect(transport.listen(() => {}, { address: `unix:${path}` })).rejects.toMatchObject({
        code: "unavailable",
        detail: expect.stringContaining("no socket"),
      });
    expect([readFileSync(file, "utf8"), readlinkSync(link)]).toEqual(["precious", file]);
    await transport[Symbol.asyncDispose]();
  });

  it("refuses paths that no system takes", async () => {
    const transport = httpTransport();
    for (const path of ["", "a\0b", "x".repeat(104)])
      await expect(transport.listen(() => {}, { address: `unix:${path}` })).rejects.toMatchObject({
        code: "bad_request",
      });
  });
});

describe("the fast wire offered to a listener without it", () => {
  transportConformance({ describe, it }, fast({ wire: "http" }, {}));
});
