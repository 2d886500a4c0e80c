/** What people get wrong about certificates, told by the option it is in, and what to do about a peer's that is not trusted. */
import { builtin } from "./builtins.ts";
import { valueName } from "./option-kinds.ts";

/** Certificates and keys in PEM, as options take them. */
export interface PemOptions {
  readonly ca?: PemValue | undefined;
  readonly cert?: PemValue | undefined;
  readonly key?: PemValue | undefined;
  readonly passphrase?: string | undefined;
}

type PemValue = string | Uint8Array | readonly (string | Uint8Array)[];

/**
 * Refuse certificates and keys that cannot be read, a key of another certificate, and one of both alone. Reads no file, and takes
 * a millisecond: done where options are passed, not for each connection.
 * @param what who takes them: begins the error's text, as in `createService: tls`.
 * @throws {TypeError} naming the option at fault.
 */
export function checkPem(what: string, options: PemOptions | undefined): void {
  if (options === undefined) return;
  const { ca, cert, key, passphrase } = options;
  checkForm(what, "ca", "certificates", ca);
  checkForm(what, "cert", "a certificate", cert);
  checkForm(what, "key", "a private key", key);
  if (cert !== undefined && key === undefined)
    throw new TypeError(`${what}: \`cert\` is of no use without its \`key\``);
  if (key !== undefined && cert === undefined)
    throw new TypeError(`${what}: \`key\` is of no use without its \`cert\``);
  // Node passes over authorities that it cannot read, and then trusts nobody.
  if (ca !== undefined) for (const part of parts(ca)) readAll(what, "ca", part);
  tryOut(what, "cert", { cert });
  tryOut(what, "key", { key, passphrase });
  tryOut(what, "key", { cert, key, passphrase });
}

function parts(value: PemValue): readonly (string | Uint8Array)[] {
  return typeof value === "string" || value instanceof Uint8Array ? [value] : value;
}

function checkForm(what: string, name: "ca" | "cert" | "key", needed: string, value: PemValue | undefined): void {
  if (value === undefined) return;
  const label = name === "key" ? "PRIVATE KEY" : "CERTIFICATE";
  const wrong = (is: string): TypeError =>
    new TypeError(`${what}: \`${name}\` must be ${needed} in PEM (-----BEGIN ${label}-----), not ${is}`);
  if (typeof value !== "string" && !(value instanceof Uint8Array) && !Array.isArray(value))
    throw wrong(valueName(value));
  for (const part of parts(value)) {
    if (typeof part !== "string" && !(part instanceof Uint8Array)) throw wrong(`a list with ${valueName(part)} in it`);
    const text = Buffer.from(part as Uint8Array).toString("latin1");
    const begins = /-----BEGIN ([A-Z0-9 ]+)-----/.exec(text)?.[1];
    // `TRUSTED CERTIFICATE`, `EC PRIVATE KEY` and others.
    if (begins?.endsWith(label) === true || (begins !== undefined && name === "key" && begins.endsWith("KEY")))
      continue;
    if (begins !== undefined && !text.includes(`${label}-----`)) throw wrong(`a ${begins.toLowerCase()}`);
    // A key in the same file as its certificate.
    if (begins !== undefined) continue;
    // Never the text itself: it may be a secret.
    const path = typeof part === "string" && !part.includes("\n") && /\.\w+$|[/\\]/.test(part);
    throw wrong(path ? `the name of a file: read it, \`readFileSync(${JSON.stringify(part)})\`` : "another text");
  }
}

function readAll(what: string, name: string, part: string | Uint8Array): void {
  for (const [certificate] of Buffer.from(part as Uint8Array)
    .toString("latin1")
    .matchAll(/-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----[^-]*-----END \1-----/g)) {
    try {
      void new (builtin.crypto().X509Certificate)(certificate);
    } catch (cause) {
      throw new TypeError(`${what}: \`${name}\` cannot be used: ${(cause as Error).message}`, { cause });
    }
  }
}

function tryOut(what: string, name: string, given: PemOptions): void {
  try {
    builtin.tls().createSecureContext(given as never);
  } catch (cause) {
    const { message } = cause as Error;
    const passphrase = /bad decrypt|password|passphrase|interrupted or cancelled/i.test(message)
      ? given.passphrase === undefined
        ? ": it has a `passphrase`"
        : ": the `passphrase` is not its own"
      : "";
    const reason = /key values mismatch/i.test(message) ? "it is not the key of `cert`" : `${message}${passphrase}`;
    throw new TypeError(`${what}: \`${name}\` cannot be used: ${reason}`, { cause });
  }
}

const untrusted = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
]);

/** Why a peer's certificate, or a handshake, was refused, and the option that helps; Node's own advice is a flag of its own. */
export function certificateReason(code: string, message: string): string {
  const [reason] = message.split("; if the root CA", 1);
  const text = `${reason} (${code})`;
  if (untrusted.has(code))
    return `${text}: trust its authority by \`tls: { ca }\`; \`MICRO_TLS_INSECURE=true\` trusts everyone`;
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") return `${text}: \`tls: { servername }\` names what it has to be for`;
  return text;
}
