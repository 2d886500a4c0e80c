import { describe, expect, it } from "vitest";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import { selfSigned } from "../../src/net/self-signed.ts";
import type { Transport } from "../../src/transport/transport.ts";

const wire = "micro/1";
const request = {
  service: "a",
  endpoint: "A.B",
  contentType: "x",
  metadata: undefined,
  body: new Uint8Array(10),
};

async function listening(options: HttpTransportOptions = {}, address = "127.0.0.1:0") {
  const transport = httpTransport(options);
  const listener = await transport.listen((exchange) => exchange.reply({ body: Buffer.from(exchange.remote) }), {
    address,
  });
  return {
    address: listener.address,
    port: listener.address.slice(listener.address.lastIndexOf(":")),
    listener,
    async [Symbol.asyncDispose]() {
      await listener[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

/** Whether a call came without a socket: its peer is the listener itself then. */
async function isDirect(caller: Transport, address: string, bound = address, options = {}): Promise<boolean> {
  const limits = { wire, deadline: performance.now() + 5_000, ...options };
  return Buffer.from((await caller.call(address, request, limits)).body).toString() === bound;
}

describe("calls within a process", () => {
  it("need no socket, and take one where either end was told so", async () => {
    await using place = await listening();
    await using caller = httpTransport();
    expect(await isDirect(caller, place.address)).toBe(true);
    expect(await isDirect(caller, place.address, place.address, { freshConnection: true })).toBe(false);
    for (const options of [{ direct: false }, { wire: "http" }] as const) {
      await using other = httpTransport(options);
      expect(await isDirect(other, place.address)).toBe(false);
      await using kept = await listening(options);
      expect(await isDirect(caller, kept.address)).toBe(false);
    }
  });

  it("never pass by TLS, on whichever end", async () => {
    const server = selfSigned({ hosts: ["127.0.0.1"] });
    const client = selfSigned({ hosts: ["client"] });
    await using place = await listening({ tls: { ...server, ca: client.cert, requestClientCert: true } });
    await using known = httpTransport({ tls: { ...client, ca: server.cert } });
    expect(await isDirect(known, place.address)).toBe(false);
    await using stranger = httpTransport({ tls: { ca: server.cert } });
    await expect(isDirect(stranger, place.address)).rejects.toMatchObject({ code: "unavailable" });
    await using plain = httpTransport();
    await expect(isDirect(plain, place.address)).rejects.toThrow();
    await using open = await listening();
    await expect(isDirect(known, open.address)).rejects.toMatchObject({ code: "unavailable" });
  });

  it("go where a connection would: to the very address first, and not across families", async () => {
    await using caller = httpTransport();
    await using own = await listening({}, "127.0.0.1:0");
    await using other = await listening({}, `127.0.0.2${own.port}`);
    expect(await isDirect(caller, other.address)).toBe(true);
    expect(await isDirect(caller, own.address)).toBe(true);
    expect(await isDirect(caller, `localhost${own.port}`, own.address)).toBe(true);
    await expect(isDirect(caller, `127.0.0.3${own.port}`)).rejects.toMatchObject({ code: "unavailable" });
    await using four = await listening({}, "0.0.0.0:0");
    expect(await isDirect(caller, `127.0.0.9${four.port}`, four.address)).toBe(true);
    await expect(isDirect(caller, `[::1]${four.port}`)).rejects.toMatchObject({ code: "unavailable" });
  });

  it("end with the listener, and come back with the next at the port", async () => {
    await using caller = httpTransport();
    const first = await listening();
    expect(await isDirect(caller, first.address)).toBe(true);
    await first[Symbol.asyncDispose]();
    await expect(isDirect(caller, first.address)).rejects.toMatchObject({ code: "unavailable", notRun: true });
    await using second = await listening({}, first.address);
    expect(await isDirect(caller, second.address)).toBe(true);
    await second.listener.close();
    await expect(isDirect(caller, second.address)).rejects.toMatchObject({ code: "unavailable", notRun: true });
  });

  it("keep to the limits of both ends", async () => {
    await using caller = httpTransport({ maxMessageBytes: 5 });
    await using place = await listening();
    await expect(isDirect(caller, place.address)).rejects.toMatchObject({ code: "too_large" });
    await using transport = httpTransport();
    await using small = await transport.listen((exchange) => exchange.reply({ body: exchange.body }), {
      address: "127.0.0.1:0",
      maxMessageBytes: 5,
    });
    await expect(transport.call(small.address, request, { wire })).rejects.toMatchObject({ code: "too_large" });
  });
});
