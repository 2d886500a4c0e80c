import { generateKeyPairSync } from "node:crypto";
import { describe, expect, it } from "vitest";
import { memoryRegistry } from "../src/registry/memory.ts";
import { selfSigned } from "../src/net/self-signed.ts";
import { createService, httpBroker, httpTransport, type HttpTlsOptions } from "../src/index.ts";

const { cert, key } = selfSigned({ hosts: ["127.0.0.1"] });
const other = selfSigned({ hosts: ["127.0.0.1"] });
const locked = generateKeyPairSync("ec", {
  namedCurve: "P-256",
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" },
});

function refusal(take: () => unknown): string {
  try {
    take();
  } catch (error) {
    expect(error).toBeInstanceOf(TypeError);
    return (error as Error).message;
  }
  return "";
}

describe("certificates that cannot be used are told of by the option they are in", () => {
  it.each<[tls: object, text: string]>([
    [{ cert: "x", key: "y" }, "`cert` must be a certificate in PEM (-----BEGIN CERTIFICATE-----), not another text"],
    [
      { cert: "tls/server.pem", key },
      '`cert` must be a certificate in PEM (-----BEGIN CERTIFICATE-----), not the name of a file: read it, `readFileSync("tls/server.pem")`',
    ],
    [{ cert: key, key: cert }, "`cert` must be a certificate in PEM (-----BEGIN CERTIFICATE-----), not a private key"],
    [{ cert, key: cert }, "`key` must be a private key in PEM (-----BEGIN PRIVATE KEY-----), not a certificate"],
    [
      { cert, key: new URL("file:///key.pem") },
      "`key` must be a private key in PEM (-----BEGIN PRIVATE KEY-----), not a URL",
    ],
    [{ ca: [cert, 5] }, "`ca` must be certificates in PEM (-----BEGIN CERTIFICATE-----), not a list with 5 in it"],
    [{ cert }, "`cert` is of no use without its `key`"],
    [{ key }, "`key` is of no use without its `cert`"],
    [{ cert, key: other.key }, "`key` cannot be used: it is not the key of `cert`"],
    [{ cert, key: locked.privateKey }, ": it has a `passphrase`"],
    [{ cert, key: locked.privateKey, passphrase: "wrong" }, ": the `passphrase` is not its own"],
    [{ ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }, "`ca` cannot be used: "],
    [{ cert: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key }, "`cert` cannot be used: "],
  ])("%j", (tls, text) => {
    const given = tls as HttpTlsOptions;
    const told = refusal(() => createService({ tls: given }));
    expect(told).toContain("createService: tls: ");
    expect(told).toContain(text);
    expect(refusal(() => httpTransport({ tls: given }))).toBe(told.replace("createService", "httpTransport"));
    expect(refusal(() => httpBroker({ registry: memoryRegistry(), tls: given }))).toBe(
      told.replace("createService", "httpBroker"),
    );
  });

  it("never with what may be a secret", () => {
    expect(refusal(() => createService({ tls: { cert, key: "s3cret-key" } }))).not.toContain("s3cret");
    expect(refusal(() => createService({ tls: { cert, key: "s3cret\nkey/" } }))).not.toContain("s3cret");
  });

  it("and what can be used passes, in any form", () => {
    for (const tls of [
      { cert, key },
      { cert: [Buffer.from(cert)], key: Buffer.from(key), ca: [cert, other.cert] },
      { cert: `${key}\n${cert}`, key },
      { ca: cert + other.cert },
      {},
    ])
      expect(refusal(() => createService({ tls }))).toBe("");
  });
});
