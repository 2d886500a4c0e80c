/** A self-signed certificate for a server that was asked to be secure and given none: ECDSA P-256, one year, as Go's (`util/tls`). */
import { isIP } from "node:net";
import { builtin } from "../builtins.ts";

export interface SelfSignedOptions {
  /** Host names and IP addresses the certificate is for. */
  readonly hosts: readonly string[];
  /** Default: one year from now. */
  readonly validMs?: number;
}

/** Both PEM. */
export interface CertificateAndKey {
  readonly cert: string;
  readonly key: string;
}

export function selfSigned(options: SelfSignedOptions): CertificateAndKey {
  const { publicKey, privateKey } = builtin.crypto().generateKeyPairSync("ec", { namedCurve: "P-256" });
  const ecdsaWithSha256 = sequence(objectId("1.2.840.10045.4.3.2"));
  const name = sequence(set(sequence(objectId("2.5.4.10"), utf8("Acme Co"))));
  const from = new Date();
  const until = new Date(from.getTime() + (options.validMs ?? 365 * 24 * 3600 * 1000));
  const body = sequence(
    tagged(0xa0, integer(Buffer.from([2]))),
    integer(builtin.crypto().randomBytes(16)),
    ecdsaWithSha256,
    name,
    sequence(time(from), time(until)),
    name,
    publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, extensions(options.hosts)),
  );
  const signature = builtin.crypto().sign("sha256", body, privateKey);
  const certificate = sequence(body, ecdsaWithSha256, bitString(signature, 0));
  return {
    cert: pem("CERTIFICATE", certificate),
    key: privateKey.export({ type: "pkcs8", format: "pem" }) as string,
  };
}

function extensions(hosts: readonly string[]): Buffer {
  const names = hosts.map((host) => {
    const family = isIP(host);
    if (family === 0) return tagged(0x82, Buffer.from(host, "latin1"));
    return tagged(0x87, family === 4 ? Buffer.from(host.split(".").map(Number)) : ipv6Bytes(host));
  });
  return sequence(
    // digitalSignature and keyCertSign: it is its own authority.
    extension("2.5.29.15", true, bitString(Buffer.from([0x84]), 2)),
    // For servers, and for clients as well: it also serves as a client certificate between two services.
    extension("2.5.29.37", false, sequence(objectId("1.3.6.1.5.5.7.3.1"), objectId("1.3.6.1.5.5.7.3.2"))),
    extension("2.5.29.19", true, sequence(tagged(0x01, Buffer.from([0xff])))),
    ...(names.length === 0 ? [] : [extension("2.5.29.17", false, sequence(...names))]),
  );
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  const octets = tagged(0x04, value);
  return critical ? sequence(objectId(id), tagged(0x01, Buffer.from([0xff])), octets) : sequence(objectId(id), octets);
}

function groups(part: string): number[] {
  return part === "" ? [] : part.split(":").map((group) => Number.parseInt(group, 16));
}

function ipv6Bytes(address: string): Buffer {
  const bytes = Buffer.alloc(16);
  // The URL parser writes the shortest form and turns an IPv4 tail into groups.
  const [left = "", right] = new URL(`http://[${address.split("%")[0]}]`).hostname.slice(1, -1).split("::");
  const head = groups(left);
  const tail = groups(right ?? "");
  head.forEach((group, index) => bytes.writeUInt16BE(group, index * 2));
  tail.forEach((group, index) => bytes.writeUInt16BE(group, 16 - (tail.length - index) * 2));
  return bytes;
}

function tagged(tag: number, content: Uint8Array): Buffer {
  const { length } = content;
  const header =
    length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), content]);
}

function sequence(...parts: readonly Uint8Array[]): Buffer {
  return tagged(0x30, Buffer.concat(parts));
}

function set(...parts: readonly Uint8Array[]): Buffer {
  return tagged(0x31, Buffer.concat(parts));
}

function utf8(text: string): Buffer {
  return tagged(0x0c, Buffer.from(text, "utf8"));
}

/** A positive number, big-endian, in the shortest form DER allows. */
function integer(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const shortest = bytes.subarray(start);
  return tagged(0x02, (shortest[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), shortest]) : shortest);
}

function bitString(bytes: Uint8Array, unusedBits: number): Buffer {
  return tagged(0x03, Buffer.concat([Buffer.from([unusedBits]), bytes]));
}

function objectId(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split(".").map(Number);
  const bytes: number[] = [];
  for (const number of [first * 40 + second, ...rest]) {
    const septets = [number & 0x7f];
    for (let left = number >>> 7; left > 0; left >>>= 7) septets.unshift((left & 0x7f) | 0x80);
    bytes.push(...septets);
  }
  return tagged(0x06, Buffer.from(bytes));
}

/** UTCTime until 2049, GeneralizedTime after (RFC 5280, section 4.1.2.5). */
function time(date: Date): Buffer {
  const digits = date.toISOString().replaceAll(/[-:T]|\.\d+/g, "");
  return date.getUTCFullYear() < 2050
    ? tagged(0x17, Buffer.from(digits.slice(2), "latin1"))
    : tagged(0x18, Buffer.from(digits, "latin1"));
}

function pem(label: string, der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
