import { X509Certificate } from "node:crypto";
import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { httpTransport, type HttpTransportOptions } from "../../src/transport/http/http-transport.ts";
import { selfSigned } from "../../src/net/self-signed.ts";
import { RawSocket, waitFor } from "../support/raw-socket.ts";

const request = {
  service: "s",
  endpoint: "A.B",
  contentType: "application/json",
  metadata: undefined,
  body: Buffer.from("x"),
};

/** The outcome of one call: its body, or its error. */
async function attempt(server: HttpTransportOptions, client: HttpTransportOptions): Promise<string | MicroError> {
  const serving = httpTransport(server);
  const calling = httpTransport(client);
  await using listener = await serving.listen((exchange) => exchange.reply({ body: exchange.body }), {
    address: "127.0.0.1:0",
  });
  try {
    const reply = await calling.call(listener.address, request, { deadline: performance.now() + 5_000 });
    return Buffer.from(reply.body).toString();
  } catch (error) {
    if (!MicroError.is(error)) throw error;
    return error;
  } finally {
    await calling[Symbol.asyncDispose]();
  }
}

const authority = selfSigned({ hosts: ["127.0.0.1"] });

describe("TLS", () => {
  it("a server without a certificate makes one, which callers do not trust unless told to", async () => {
    expect(await attempt({ secure: true }, { secure: true, insecureSkipVerify: true })).toBe("x");
    const error = await attempt({ secure: true }, { secure: true });
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(String(error)).toContain(
      "self-signed certificate (DEPTH_ZERO_SELF_SIGNED_CERT): trust its authority by `tls: { ca }`; `MICRO_TLS_INSECURE=true` trusts everyone",
    );
    // Node's advice is a flag of its own.
    expect(String(error)).not.toContain("--use-system-ca");
  });

  it("a handshake that does not end is given up, however busily it comes, and keeps nobody else from theirs", async () => {
    const serving = httpTransport({ tls: authority, firstRequestTimeoutMs: 1_000 });
    const calling = httpTransport({ tls: { ca: authority.cert } });
    await using listener = await serving.listen((exchange) => exchange.reply({ body: exchange.body }), {
      address: "127.0.0.1:0",
    });
    using silent = await RawSocket.connect(listener.address);
    using begun = await RawSocket.connect(listener.address);
    using busy = await RawSocket.connect(listener.address);
    // A record that says it has 16 KiB.
    const record = Buffer.from([22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3]);
    begun.write(record);
    busy.write(record);
    const since = performance.now();
    const drip = setInterval(() => busy.write("x"), 50);
    try {
      for (const raw of [silent, begun, busy]) {
        const reply = await calling.call(listener.address, request, {
          deadline: performance.now() + 5_000,
          freshConnection: true,
        });
        expect(Buffer.from(reply.body).toString()).toBe("x");
        await waitFor(() => raw.closed, "it is closed");
      }
    } finally {
      clearInterval(drip);
    }
    expect(performance.now() - since).toBeGreaterThan(900);
    // Not Node's own limit, which is minutes, nor the one by default.
    expect(performance.now() - since).toBeLessThan(8_000);
    await calling.call(listener.address, request, { deadline: performance.now() + 5_000 });
    await calling[Symbol.asyncDispose]();
  });

  it("a handshake may have all the time there is", async () => {
    const body = await attempt({ tls: authority, firstRequestTimeoutMs: Infinity }, { tls: { ca: authority.cert } });
    expect(body).toBe("x");
  });

  it("a given authority is trusted, for the names of its certificate", async () => {
    expect(await attempt({ tls: authority }, { tls: { ca: authority.cert } })).toBe("x");
    const other = selfSigned({ hosts: ["example.test"] });
    expect(await attempt({ tls: other }, { tls: { ca: other.cert } })).toMatchObject({
      code: "unavailable",
      notRun: true,
    });
    expect(await attempt({ tls: other }, { tls: { ca: other.cert, servername: "example.test" } })).toBe("x");
  });

  it("with mutual TLS, a caller without a certificate, or with a strange one, is refused", async () => {
    const caller = selfSigned({ hosts: ["caller"] });
    const server = { tls: { ...authority, ca: caller.cert, requestClientCert: true } };
    expect(await attempt(server, { tls: { ...caller, ca: authority.cert } })).toBe("x");
    const stranger = selfSigned({ hosts: ["caller"] });
    expect(await attempt(server, { tls: { ca: authority.cert } })).toMatchObject({ code: "unavailable" });
    expect(await attempt(server, { tls: { ...stranger, ca: authority.cert } })).toMatchObject({ code: "unavailable" });
  });

  it("a TLS caller on a plain port is told so", async () => {
    const error = await attempt({}, { secure: true });
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(String(error)).toContain("the peer does not speak TLS");
  });

  it("a plain caller on a TLS port fails at once", async () => {
    const start = performance.now();
    const error = await attempt({ secure: true }, {});
    expect(String(error)).toContain("TLS");
    expect(performance.now() - start).toBeLessThan(3_000);
  });
});

describe("the self-signed certificate", () => {
  it("is ECDSA P-256, valid for a year, for the names asked for", () => {
    const { cert, key } = selfSigned({ hosts: ["localhost", "127.0.0.1", "::1", "fe80::1:2", "10.1.2.3"] });
    const parsed = new X509Certificate(cert);
    expect(parsed.subjectAltName).toBe(
      "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, IP Address:FE80:0:0:0:0:0:1:2, IP Address:10.1.2.3",
    );
    expect(parsed.publicKey.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
    expect(parsed.verify(parsed.publicKey)).toBe(true);
    expect(parsed.checkIssued(parsed)).toBe(true);
    const days = (parsed.validToDate.getTime() - parsed.validFromDate.getTime()) / 86_400_000;
    expect(days).toBeCloseTo(365, 3);
    expect(key).toContain("PRIVATE KEY");
    expect(selfSigned({ hosts: [] }).cert).not.toBe(cert);
  });
});
