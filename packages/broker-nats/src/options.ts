/** Settings of the NATS broker, and their check. */
import { checkOptionNames, optionKinds } from "@micro/core";
import type { Logger, OptionNames } from "@micro/core";

/** Certificates in PEM, as text or bytes. */
export interface NatsTlsOptions {
  /** Authorities that sign the servers' certificates. Default: the system's. */
  ca?: string | Uint8Array | undefined;
  /** Our certificate, where the servers want one (mTLS); needs `key`. */
  cert?: string | Uint8Array | undefined;
  /** The private key of `cert`. */
  key?: string | Uint8Array | undefined;
}

/** How messages are kept. A stream that holds a topic already is used as it is, whoever made it. */
export interface JetStreamOptions {
  /** Make a stream for a topic that has none. Default: true. */
  createStreams?: boolean | undefined;
  /** Servers that keep a copy, for streams made here. Default: 1. */
  replicas?: number | undefined;
  /** Where streams made here keep their messages. Default: `file`. */
  storage?: "file" | "memory" | undefined;
  /**
   * `interest`: a message is kept until every subscription that existed when it was published has handled it.
   * `limits`: until it is older than `maxAgeMs`. For streams made here. Default: `interest`.
   */
  retention?: "interest" | "limits" | undefined;
  /** Oldest message kept, in milliseconds, for streams made here. Default: none with `interest`, one day with `limits`. */
  maxAgeMs?: number | undefined;
  /** A message that is not acknowledged for so long is delivered again, in milliseconds; running handlers extend it. Default: 30000. */
  ackWaitMs?: number | undefined;
}

/** Settings of {@link natsBroker}; all have defaults. */
export interface NatsBrokerOptions {
  /** Servers of one cluster, as `host`, `host:port`, `nats://host:port` or `tls://host:port`; the port is 4222 unless given. Default: `["127.0.0.1:4222"]`. */
  servers?: readonly string[] | undefined;
  /** User, where NATS wants one; needs `password`. `nats://user:password@host` does the same. */
  user?: string | undefined;
  password?: string | undefined;
  /** Token, where NATS wants one. */
  token?: string | undefined;
  /** Text of a `.creds` file: a JWT and its seed. */
  credentials?: string | undefined;
  /** Talk TLS; the same as `tls://` servers. Certificates are always verified. */
  tls?: NatsTlsOptions | undefined;
  /** Name of the connection in the server's monitoring. Default: none. */
  name?: string | undefined;
  /** Keep messages until they are handled (at-least-once). Default: false, core NATS as Go's plugin (at-most-once). */
  jetstream?: boolean | JetStreamOptions | undefined;
  /** Publishes that wait for the server while it is away; further ones fail at once. Default: 1000. */
  maxWaiting?: number | undefined;
  /** Messages kept for a subscriber too slow for them, beyond its prefetch; further ones are dropped and reported. Not with JetStream, which waits. Default: 65536. */
  maxPendingMessages?: number | undefined;
  /** The same in bytes. Default: 67108864 (64 MiB). */
  maxPendingBytes?: number | undefined;
  /** Connection changes (info), failures without an error handler (error). Default: none. */
  logger?: Logger | undefined;
}

/** JetStream options with defaults. */
export interface JetStreamSettings {
  readonly createStreams: boolean;
  readonly replicas: number;
  readonly storage: "file" | "memory";
  readonly retention: "interest" | "limits";
  readonly maxAgeMs: number | undefined;
  readonly ackWaitMs: number;
}

/** Options with defaults, checked. */
export interface NatsSettings {
  /** `host:port`. */
  readonly servers: readonly string[];
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly token: string | undefined;
  readonly credentials: string | undefined;
  readonly tls: { ca?: string; cert?: string; key?: string } | undefined;
  readonly name: string | undefined;
  readonly jetstream: JetStreamSettings | undefined;
  readonly maxWaiting: number;
  readonly maxPendingMessages: number;
  readonly maxPendingBytes: number;
}

const day = 24 * 3_600_000;

const optionNames: OptionNames<NatsBrokerOptions> = {
  servers: true,
  user: true,
  password: true,
  token: true,
  credentials: true,
  tls: true,
  name: true,
  jetstream: true,
  maxWaiting: true,
  maxPendingMessages: true,
  maxPendingBytes: true,
  logger: optionKinds.logger,
};
const tlsNames: OptionNames<NatsTlsOptions> = { ca: true, cert: true, key: true };
const jetstreamNames: OptionNames<JetStreamOptions> = {
  createStreams: true,
  replicas: true,
  storage: true,
  retention: true,
  maxAgeMs: true,
  ackWaitMs: true,
};

/** @throws {TypeError} naming the option that is wrong. */
export function readOptions(options: NatsBrokerOptions): NatsSettings {
  checkOptionNames("natsBroker", options, optionNames);
  const { servers = ["127.0.0.1:4222"], token, credentials, name, tls, jetstream = false } = options;
  const { maxWaiting = 1_000, maxPendingMessages = 65_536, maxPendingBytes = 64 * 1024 * 1024 } = options;
  if (!Array.isArray(servers) || servers.length === 0)
    throw new TypeError("natsBroker: `servers` must be a list of at least one address");
  const read = servers.map((server) => readServer(server as unknown));
  const { user = read.find((each) => each.user !== undefined)?.user } = options;
  const { password = read.find((each) => each.user !== undefined)?.password } = options;
  if ((user === undefined) !== (password === undefined))
    throw new TypeError("natsBroker: `user` and `password` are only of use together");
  const given = [user, token, credentials].filter((each) => each !== undefined);
  if (given.length > 1)
    throw new TypeError("natsBroker: pass one of `user` with `password`, `token` and `credentials`");
  for (const [option, value] of Object.entries({ maxWaiting, maxPendingMessages, maxPendingBytes }))
    if (!(typeof value === "number" && value >= 0))
      throw new TypeError(`natsBroker: \`${option}\` must be a number, 0 or more`);
  return {
    servers: [...new Set(read.map((each) => each.address))],
    user,
    password,
    token,
    credentials,
    tls: tls !== undefined || read.some((each) => each.secure) ? readTls(tls ?? {}) : undefined,
    name,
    jetstream: jetstream === false ? undefined : readJetStream(jetstream === true ? {} : jetstream),
    maxWaiting,
    maxPendingMessages,
    maxPendingBytes,
  };
}

function readJetStream(options: JetStreamOptions): JetStreamSettings {
  checkOptionNames("natsBroker: jetstream", options, jetstreamNames);
  const { createStreams = true, replicas = 1, storage = "file", retention = "interest", ackWaitMs = 30_000 } = options;
  const { maxAgeMs = retention === "limits" ? day : undefined } = options;
  if (!Number.isInteger(replicas) || replicas < 1 || replicas > 5)
    throw new TypeError("natsBroker: `jetstream.replicas` must be a whole number from 1 to 5");
  if (!["file", "memory"].includes(storage))
    throw new TypeError("natsBroker: `jetstream.storage` must be `file` or `memory`");
  if (!["interest", "limits"].includes(retention))
    throw new TypeError("natsBroker: `jetstream.retention` must be `interest` or `limits`");
  if (!(ackWaitMs >= 100)) throw new TypeError("natsBroker: `jetstream.ackWaitMs` must be 100 or more");
  if (maxAgeMs !== undefined && !(maxAgeMs >= 100))
    throw new TypeError("natsBroker: `jetstream.maxAgeMs` must be 100 or more");
  return { createStreams, replicas, storage, retention, maxAgeMs, ackWaitMs };
}

interface ReadServer {
  readonly address: string;
  readonly secure: boolean;
  readonly user: string | undefined;
  readonly password: string | undefined;
}

function readServer(server: unknown): ReadServer {
  const wrong = (): TypeError =>
    new TypeError(
      `natsBroker: server ${JSON.stringify(typeof server === "string" ? server.replace(/\/\/[^@]*@/, "//…@") : server)} must be host, host:port, nats://host:port or tls://host:port, with IPv6 in brackets`,
    );
  if (typeof server !== "string") throw wrong();
  const match =
    /^(?:(nats|tls):\/\/)?(?:([^\s:@/]+):([^\s@/]*)@)?(\[[\da-f:.%]+\]|[^\s:/[\]@?#]+)(?::(\d{1,5}))?\/?$/i.exec(
      server,
    );
  if (match === null) throw wrong();
  const [, scheme, user, password, host, port = "4222"] = match;
  if (Number(port) < 1 || Number(port) > 65_535) throw wrong();
  try {
    return {
      address: `${host}:${port}`,
      secure: scheme?.toLowerCase() === "tls",
      user: user === undefined ? undefined : decodeURIComponent(user),
      password: password === undefined ? undefined : decodeURIComponent(password),
    };
  } catch {
    throw wrong();
  }
}

function readTls(options: NatsTlsOptions): { ca?: string; cert?: string; key?: string } {
  checkOptionNames("natsBroker: tls", options, tlsNames);
  const { ca, cert, key } = options;
  if ((cert === undefined) !== (key === undefined))
    throw new TypeError("natsBroker: `tls.cert` and `tls.key` are only of use together");
  return {
    ...(ca === undefined ? {} : { ca: pem("ca", ca) }),
    ...(cert === undefined ? {} : { cert: pem("cert", cert) }),
    ...(key === undefined ? {} : { key: pem("key", key) }),
  };
}

function pem(name: string, value: string | Uint8Array): string {
  const text = Buffer.from(value).toString();
  if (!text.includes("-----BEGIN "))
    throw new TypeError(`natsBroker: \`tls.${name}\` must be PEM (-----BEGIN …), not a file name`);
  return text;
}
