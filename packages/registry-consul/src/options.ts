/** Settings of the Consul registry, and their check. */
import { checkOptionNames, optionKinds, type Logger, type OptionNames } from "@micro/core";

/** Certificates in PEM, as text or bytes. */
export interface ConsulTlsOptions {
  /** Authorities that sign the agents' certificates. Default: the system's. */
  ca?: string | Uint8Array | undefined;
  /** Our certificate, where the agents want one (mTLS); needs `key`. */
  cert?: string | Uint8Array | undefined;
  /** The private key of `cert`. */
  key?: string | Uint8Array | undefined;
  /** The name the agents' certificates must have. Default: the host of the address. */
  servername?: string | undefined;
}

/** A check that Consul makes itself, by opening a connection to the node. */
export interface TcpCheckOptions {
  /** How often, in milliseconds. */
  intervalMs: number;
  /** Limit of one try, in milliseconds. Default: Consul's, 10 s. */
  timeoutMs?: number | undefined;
}

/** A check that Consul makes itself, by an HTTP request to the node; 2xx is good. */
export interface HttpCheckOptions extends TcpCheckOptions {
  /** Default: `http`. */
  protocol?: "http" | "https" | undefined;
  /** Default: the node's port. */
  port?: number | undefined;
  /** Default: `/`. */
  path?: string | undefined;
}

/** Settings of {@link consulRegistry}; all have defaults. */
export interface ConsulRegistryOptions {
  /**
   * Agents, as `host`, `host:port` or `http(s)://host:port`; the port is 8500 unless given. One is used until it
   * fails, then the next. Default: `["127.0.0.1:8500"]`, as Go.
   */
  addresses?: readonly string[] | undefined;
  /** ACL token. It needs `service:write` for what is registered, `service:read` and `node:read` for what is looked up. */
  token?: string | undefined;
  /** Datacenter of look-ups. Default: the agent's. */
  datacenter?: string | undefined;
  /** Talk TLS; the same as `https://` in every address. */
  tls?: ConsulTlsOptions | undefined;
  /** Do not verify the agents' certificates. Default: false. */
  insecureSkipVerify?: boolean | undefined;
  /** Register for Consul's service mesh (native connect), and look up what is in it. Default: false. */
  connect?: boolean | undefined;
  /** Let Consul check nodes by TCP, instead of expecting refreshes within the TTL. Wins over `httpCheck`, as in Go. */
  tcpCheck?: TcpCheckOptions | undefined;
  /** Let Consul check nodes by HTTP, instead of expecting refreshes within the TTL. */
  httpCheck?: HttpCheckOptions | undefined;
  /** Look up on any server, even one that lags behind or has no leader: Go's default. Default: false. */
  staleReads?: boolean | undefined;
  /** Limit of one operation, in milliseconds; several addresses share it. Default: 5000. */
  timeoutMs?: number | undefined;
  /** Longest time one query of a watch waits for a change, in milliseconds; a silent agent is noticed some 5 s after it. Default: 15000. */
  waitMs?: number | undefined;
  /** Ignored tags (warn, once per instance), registrations that spread slowly. Default: none. */
  logger?: Logger | undefined;
}

const optionNames: OptionNames<ConsulRegistryOptions> = {
  addresses: true,
  token: true,
  datacenter: true,
  tls: true,
  insecureSkipVerify: true,
  connect: true,
  tcpCheck: true,
  httpCheck: true,
  staleReads: true,
  timeoutMs: true,
  waitMs: true,
  logger: optionKinds.logger,
};
const tlsNames: OptionNames<ConsulTlsOptions> = { ca: true, cert: true, key: true, servername: true };
const tcpCheckNames: OptionNames<TcpCheckOptions> = { intervalMs: true, timeoutMs: true };
const httpCheckNames: OptionNames<HttpCheckOptions> = { ...tcpCheckNames, protocol: true, port: true, path: true };

/** Options with defaults, checked. */
export interface ConsulSettings extends Omit<ConsulRegistryOptions, "addresses"> {
  /** URLs of one scheme. */
  readonly addresses: readonly URL[];
  readonly connect: boolean;
  readonly staleReads: boolean;
  readonly timeoutMs: number;
  readonly waitMs: number;
}

/** @throws {TypeError} naming the option that is wrong. */
export function readOptions(options: ConsulRegistryOptions): ConsulSettings {
  checkOptionNames("consulRegistry", options, optionNames);
  checkOptionNames("consulRegistry: tls", options.tls, tlsNames);
  checkOptionNames("consulRegistry: tcpCheck", options.tcpCheck, tcpCheckNames);
  checkOptionNames("consulRegistry: httpCheck", options.httpCheck, httpCheckNames);
  const { addresses = ["127.0.0.1:8500"], tls, tcpCheck, httpCheck, timeoutMs = 5_000, waitMs = 15_000 } = options;
  if (!Array.isArray(addresses) || addresses.length === 0)
    throw new TypeError("consulRegistry: `addresses` must be a list of at least one address");
  const urls = addresses.map((address) => readAddress(address as unknown, tls !== undefined));
  if (new Set(urls.map((url) => url.protocol)).size > 1)
    throw new TypeError("consulRegistry: `addresses` mixes http:// and https://; all agents must be one or the other");
  for (const [name, value] of [
    ["timeoutMs", timeoutMs],
    ["waitMs", waitMs],
    ["tcpCheck.intervalMs", tcpCheck?.intervalMs ?? 1],
    ["tcpCheck.timeoutMs", tcpCheck?.timeoutMs ?? 1],
    ["httpCheck.intervalMs", httpCheck?.intervalMs ?? 1],
    ["httpCheck.timeoutMs", httpCheck?.timeoutMs ?? 1],
  ] as const)
    if (!(value > 0 && value <= 0x7fff_ffff)) throw new TypeError(`consulRegistry: \`${name}\` must be above 0`);
  const { port = 1 } = httpCheck ?? {};
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new TypeError(`consulRegistry: \`httpCheck.port\` must be from 1 to 65535, not ${port}`);
  if ((tls?.cert === undefined) !== (tls?.key === undefined))
    throw new TypeError("consulRegistry: `tls.cert` and `tls.key` are only of use together");
  for (const name of ["ca", "cert", "key"] as const)
    if (tls?.[name] !== undefined && !Buffer.from(tls[name]).includes("-----BEGIN "))
      throw new TypeError(`consulRegistry: \`tls.${name}\` must be PEM (-----BEGIN …), not a file name`);
  if (options.token !== undefined && !/^[\x21-\x7e]+$/.test(options.token))
    throw new TypeError("consulRegistry: `token` must be printable ASCII without spaces");
  return {
    ...options,
    addresses: urls,
    connect: options.connect ?? false,
    staleReads: options.staleReads ?? false,
    timeoutMs,
    waitMs,
  };
}

function readAddress(address: unknown, tls: boolean): URL {
  const match =
    typeof address === "string"
      ? /^(?:(https?):\/\/)?(\[[\da-f:.]+\]|[^\s:/[\]@?#]+)(?::(\d{1,5}))?\/?$/i.exec(address)
      : null;
  const port = match?.[3] ?? "8500";
  if (match === null || Number(port) < 1 || Number(port) > 65_535)
    throw new TypeError(
      `consulRegistry: address ${JSON.stringify(address)} must be host, host:port or http(s)://host:port, with IPv6 in brackets`,
    );
  if (match[1]?.toLowerCase() === "http" && tls)
    throw new TypeError(`consulRegistry: address ${JSON.stringify(address)} is http:// although \`tls\` is set`);
  const url = new URL(`${tls ? "https" : (match[1]?.toLowerCase() ?? "http")}://${match[2]}`);
  url.port = port;
  return url;
}
