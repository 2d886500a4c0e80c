/** Settings of the etcd registry, and their check. */
import { checkOptionNames, optionKinds, type Logger, type OptionNames } from "@micro/core";

/** Certificates in PEM, as text or bytes. */
export interface EtcdTlsOptions {
  /** Authorities that sign the servers' certificates. Default: the system's. */
  ca?: string | Uint8Array | undefined;
  /** Our certificate, where the servers want one (mTLS); needs `key`. */
  cert?: string | Uint8Array | undefined;
  /** The private key of `cert`. */
  key?: string | Uint8Array | undefined;
}

/** Settings of {@link etcdRegistry}; all have defaults. */
export interface EtcdRegistryOptions {
  /**
   * Members of one cluster, as `host`, `host:port` or `http(s)://host:port`; the port is 2379 unless given. One is
   * used until it fails, then the next. Default: `["127.0.0.1:2379"]`, as Go.
   */
  endpoints?: readonly string[] | undefined;
  /** User, where etcd wants one; needs `password`. */
  username?: string | undefined;
  password?: string | undefined;
  /** Talk TLS; the same as `https://` in every endpoint. Certificates are always verified. */
  tls?: EtcdTlsOptions | undefined;
  /** Limit of one operation, in milliseconds; several endpoints share it. Default: 5000, as Go. */
  timeoutMs?: number | undefined;
  /**
   * What precedes every key, e.g. `/team-a`: registries with different ones never meet. Default: empty, Go's
   * `/micro/registry/…` at the root.
   */
  namespace?: string | undefined;
  /**
   * Look up on whichever member answers, as Go does, even if it lags behind or has lost the others. Default: false,
   * look-ups see what was written before them.
   */
  staleReads?: boolean | undefined;
  /** Ignored keys (warn, once per key), reconnects (debug). Default: none. */
  logger?: Logger | undefined;
}

const optionNames: OptionNames<EtcdRegistryOptions> = {
  endpoints: true,
  username: true,
  password: true,
  tls: true,
  timeoutMs: true,
  namespace: true,
  staleReads: true,
  logger: optionKinds.logger,
};

/** Options with defaults, checked. */
export interface EtcdSettings {
  /** URLs, all with the same scheme. */
  readonly endpoints: readonly string[];
  readonly auth: { readonly username: string; readonly password: string } | undefined;
  readonly credentials: { rootCertificate: Buffer; privateKey?: Buffer; certChain?: Buffer } | undefined;
  readonly timeoutMs: number;
  readonly namespace: string;
  readonly staleReads: boolean;
  readonly logger: Logger | undefined;
}

/** @throws {TypeError} naming the option that is wrong. */
export function readOptions(options: EtcdRegistryOptions): EtcdSettings {
  checkOptionNames("etcdRegistry", options, optionNames);
  checkOptionNames("etcdRegistry: tls", options.tls, { ca: true, cert: true, key: true });
  const { endpoints = ["127.0.0.1:2379"], username, password, tls, timeoutMs = 5_000 } = options;
  const { namespace = "", staleReads = false, logger } = options;
  if (!Array.isArray(endpoints) || endpoints.length === 0)
    throw new TypeError("etcdRegistry: `endpoints` must be a list of at least one address");
  const urls = endpoints.map((endpoint) => readEndpoint(endpoint as unknown, tls !== undefined));
  if (new Set(urls.map((url) => url.split(":")[0])).size > 1)
    throw new TypeError("etcdRegistry: `endpoints` mixes http:// and https://; all members must be one or the other");
  if ((username === undefined) !== (password === undefined))
    throw new TypeError("etcdRegistry: `username` and `password` are only of use together");
  if (!(timeoutMs > 0 && timeoutMs <= 0x7fff_ffff)) throw new TypeError("etcdRegistry: `timeoutMs` must be above 0");
  return {
    endpoints: [...new Set(urls)],
    auth: username === undefined || password === undefined ? undefined : { username, password },
    credentials: urls[0]?.startsWith("https:") === true ? readTls(tls ?? {}) : undefined,
    timeoutMs,
    namespace,
    staleReads,
    logger,
  };
}

function readEndpoint(endpoint: unknown, tls: boolean): string {
  const wrong = (): TypeError =>
    new TypeError(
      `etcdRegistry: endpoint ${JSON.stringify(endpoint)} must be host, host:port or http(s)://host:port, with IPv6 in brackets`,
    );
  if (typeof endpoint !== "string") throw wrong();
  const match = /^(?:(https?):\/\/)?(\[[\da-f:.%]+\]|[^\s:/[\]@?#]+)(?::(\d{1,5}))?\/?$/i.exec(endpoint);
  if (match === null) throw wrong();
  const [, scheme, host, port = "2379"] = match;
  if (Number(port) < 1 || Number(port) > 65_535) throw wrong();
  if (scheme?.toLowerCase() === "http" && tls)
    throw new TypeError(`etcdRegistry: endpoint ${JSON.stringify(endpoint)} is http:// although \`tls\` is set`);
  return `${tls ? "https" : (scheme?.toLowerCase() ?? "http")}://${host}:${port}`;
}

function readTls({ ca, cert, key }: EtcdTlsOptions): EtcdSettings["credentials"] {
  if ((cert === undefined) !== (key === undefined))
    throw new TypeError("etcdRegistry: `tls.cert` and `tls.key` are only of use together");
  if (ca === undefined && cert === undefined) return undefined;
  return {
    // Without one, gRPC takes the system's, though the client's types ask for one.
    ...(ca === undefined ? ({} as { rootCertificate: Buffer }) : { rootCertificate: pem("ca", ca) }),
    ...(cert === undefined ? {} : { certChain: pem("cert", cert) }),
    ...(key === undefined ? {} : { privateKey: pem("key", key) }),
  };
}

function pem(name: string, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value);
  if (!bytes.includes("-----BEGIN "))
    throw new TypeError(`etcdRegistry: \`tls.${name}\` must be PEM (-----BEGIN …), not a file name`);
  return bytes;
}
