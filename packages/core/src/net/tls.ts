/** TLS settings of both sides. */
import type { ConnectionOptions, TlsOptions } from "node:tls";
import { checkOptionNames, type OptionNames } from "../option-check.ts";
import { checkPem } from "../tls-check.ts";
import { selfSigned } from "./self-signed.ts";

/** Certificates and keys are PEM. */
export interface HttpTlsOptions {
  /** Own certificate, followed by its intermediates. A client shows it to servers that ask (mTLS). Default: none. */
  cert?: string | Uint8Array | readonly (string | Uint8Array)[] | undefined;
  /** The private key of `cert`. */
  key?: string | Uint8Array | undefined;
  /** Passphrase of `key`. */
  passphrase?: string | undefined;
  /** Authorities to trust instead of the system's, for servers and, with `requestClientCert`, for clients. */
  ca?: string | Uint8Array | readonly (string | Uint8Array)[] | undefined;
  /** Server: only clients with a certificate of `ca` may connect (mTLS). Default: false. */
  requestClientCert?: boolean | undefined;
  /** Client: the name the server's certificate must have. Default: the host of its address. */
  servername?: string | undefined;
  /** Lowest protocol version. Default: `TLSv1.2`. */
  minVersion?: "TLSv1.2" | "TLSv1.3" | undefined;
}

const optionNames: OptionNames<HttpTlsOptions> = {
  cert: true,
  key: true,
  passphrase: true,
  ca: true,
  requestClientCert: true,
  servername: true,
  minVersion: true,
};

/** @param what who takes them: begins the error's text. @throws {TypeError} for an option that does not exist, or no PEM. */
export function checkTlsOptions(what: string, options: HttpTlsOptions | undefined): void {
  checkOptionNames(what, options, optionNames);
  checkPem(what, options);
}

/** What `tls.connect` gets beside the address. */
export function clientTls(options: HttpTlsOptions | undefined, insecureSkipVerify: boolean): ConnectionOptions {
  return {
    ...shared(options),
    ALPNProtocols: ["http/1.1"],
    rejectUnauthorized: !insecureSkipVerify,
    ...(options?.servername === undefined ? {} : { servername: options.servername }),
  };
}

/** What `tls.createServer` gets; without a certificate a self-signed one for `hosts` is made, as Go's transport does. */
export function serverTls(options: HttpTlsOptions | undefined, hosts: readonly string[]): TlsOptions {
  const base: TlsOptions = {
    ...shared(options),
    ALPNProtocols: ["http/1.1"],
    requestCert: options?.requestClientCert === true,
    rejectUnauthorized: options?.requestClientCert === true,
  };
  return options?.cert === undefined ? { ...base, ...selfSigned({ hosts }) } : base;
}

function shared(options: HttpTlsOptions | undefined): Pick<TlsOptions, "minVersion"> {
  const { cert, key, passphrase, ca } = options ?? {};
  return {
    minVersion: options?.minVersion ?? "TLSv1.2",
    ...(cert === undefined ? {} : { cert: pem(cert) }),
    ...(key === undefined ? {} : { key: pem(key) }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(ca === undefined ? {} : { ca: pem(ca) }),
  };
}

function pem(value: string | Uint8Array | readonly (string | Uint8Array)[]): string | Buffer | (string | Buffer)[] {
  return typeof value === "string" || value instanceof Uint8Array ? onePem(value) : value.map(onePem);
}

function onePem(part: string | Uint8Array): string | Buffer {
  return typeof part === "string" ? part : Buffer.from(part);
}

/** Several certificates as one text, for clients that take only one. */
export function joinPem(
  certificates: string | Uint8Array | readonly (string | Uint8Array)[] | undefined,
): string | Uint8Array | undefined {
  if (certificates === undefined || typeof certificates === "string" || certificates instanceof Uint8Array)
    return certificates;
  return certificates.map((part) => Buffer.from(part).toString()).join("\n");
}
