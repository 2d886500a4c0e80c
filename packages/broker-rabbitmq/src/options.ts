/** Settings of the RabbitMQ broker and of one publish, and their check. */
import { checkOptionNames, optionKinds } from "@micro/core";
import type { Logger, OptionNames } from "@micro/core";
import type { RabbitmqSubscribeOptions } from "./subscribe-options.ts";

/** Certificates in PEM, as text or bytes. */
export interface RabbitmqTlsOptions {
  /** Authorities that sign the servers' certificates. Default: the system's. */
  ca?: string | Uint8Array | undefined;
  /** Our certificate, where the servers want one (mTLS); needs `key`. */
  cert?: string | Uint8Array | undefined;
  /** The private key of `cert`. */
  key?: string | Uint8Array | undefined;
}

/** How the exchange distributes; go-micro v2 and v4 know `topic` only (`broker/rabbitmq`). */
export type ExchangeKind = "topic" | "direct" | "fanout";

/** Settings of {@link rabbitmqBroker}; all have defaults. */
export interface RabbitmqBrokerOptions {
  /**
   * Nodes of one cluster, tried in turn, as `amqp://user:password@host:port/vhost`, `amqps://…`, `host` or `host:port`;
   * names and passwords percent-encoded. Missing parts: 5672 (5671 with TLS), `guest`, `guest`, vhost `/`.
   * Default: `["127.0.0.1:5672"]`.
   */
  addresses?: readonly string[] | undefined;
  /** For addresses without one; needs `password`. Default: `guest`. */
  user?: string | undefined;
  password?: string | undefined;
  /** Talk TLS on all addresses; the same as `amqps://`. Certificates are always verified. */
  tls?: RabbitmqTlsOptions | undefined;
  /** Log in with the client certificate instead of a user (SASL EXTERNAL); needs `tls.cert`. Default: false. */
  externalAuth?: boolean | undefined;
  /** Name of the exchange all topics go through. Default: `micro`, as Go's. */
  exchange?: string | undefined;
  /** Its kind. With `fanout` every subscription gets the messages of every topic. Default: `topic`. */
  exchangeKind?: ExchangeKind | undefined;
  /** Publish to the queue named like the topic, through no exchange: Go's `WithoutExchange`. There is no broadcast then. Default: false. */
  withoutExchange?: boolean | undefined;
  /**
   * Survive a restart of the server: durable exchange, durable queues that stay without consumers, persistent messages.
   * With false they are as Go's plugin declares them by default: gone with the server, a queue with its last consumer.
   * Default: false.
   */
  durable?: boolean | undefined;
  /** The exchange alone, where others have declared it otherwise. Default: `durable`. */
  durableExchange?: boolean | undefined;
  /** Silence after which a server is asked for a sign of life, in milliseconds; it counts as lost after three of them. Whole seconds; the server may ask for less. Default: 5000. */
  heartbeatMs?: number | undefined;
  /** Name of the connections in the server's management. Default: none. */
  name?: string | undefined;
  /** Publishes that wait for the server while it is away, blocked or behind; further ones fail at once. Default: 1000. */
  maxWaiting?: number | undefined;
  /** Messages sent and not confirmed yet, before further publishes wait. Default: 5000. */
  maxUnconfirmed?: number | undefined;
  /** The same in bytes. Default: 33554432 (32 MiB). */
  maxUnconfirmedBytes?: number | undefined;
  /** Connection changes (info), other people's declarations that weaken ours (warn), failures without an error handler (error). Default: none. */
  logger?: Logger | undefined;
}

/** What AMQP has for one message; the names are AMQP's, in Go `broker/rabbitmq/options.go`. */
export interface RabbitmqPublishOptions {
  /** Written to disk by durable queues. Default: the broker's `durable`. */
  persistent?: boolean | undefined;
  /** 0 to 255, for queues with `x-max-priority`. */
  priority?: number | undefined;
  /** Dropped (or dead-lettered by the server) when it has not been delivered after so long, in milliseconds. */
  expirationMs?: number | undefined;
  /** Fails with `not_found` if no queue takes the message. Default: false, as with the other brokers. */
  mandatory?: boolean | undefined;
  contentType?: string | undefined;
  contentEncoding?: string | undefined;
  correlationId?: string | undefined;
  replyTo?: string | undefined;
  messageId?: string | undefined;
  timestamp?: Date | undefined;
  type?: string | undefined;
  /** Must be the name of the connection's user: the server refuses another one. */
  userId?: string | undefined;
  appId?: string | undefined;
}

declare module "@micro/core" {
  interface PublishOptions {
    /** What `@micro/broker-rabbitmq` adds. */
    rabbitmq?: RabbitmqPublishOptions | undefined;
  }
  interface SubscribeOptions {
    /** What `@micro/broker-rabbitmq` adds. */
    rabbitmq?: RabbitmqSubscribeOptions | undefined;
  }
}

/** One node, and how to log in. */
export interface RabbitmqNode {
  readonly host: string;
  readonly port: number;
  /** `host:port`, for people. */
  readonly address: string;
  readonly secure: boolean;
  readonly user: string;
  readonly password: string;
  readonly vhost: string;
}

/** Options with defaults, checked. */
export interface RabbitmqSettings {
  readonly nodes: readonly RabbitmqNode[];
  readonly tls: { ca?: string; cert?: string; key?: string };
  readonly externalAuth: boolean;
  /** Empty: the default exchange. */
  readonly exchange: string;
  readonly exchangeKind: ExchangeKind;
  readonly durable: boolean;
  readonly durableExchange: boolean;
  readonly heartbeatSeconds: number;
  readonly name: string | undefined;
  readonly maxWaiting: number;
  readonly maxUnconfirmed: number;
  readonly maxUnconfirmedBytes: number;
}

const optionNames: OptionNames<RabbitmqBrokerOptions> = {
  addresses: true,
  user: true,
  password: true,
  tls: true,
  externalAuth: true,
  exchange: true,
  exchangeKind: true,
  withoutExchange: true,
  durable: true,
  durableExchange: true,
  heartbeatMs: true,
  name: true,
  maxWaiting: true,
  maxUnconfirmed: true,
  maxUnconfirmedBytes: true,
  logger: optionKinds.logger,
};
const tlsNames: OptionNames<RabbitmqTlsOptions> = { ca: true, cert: true, key: true };

const kinds: readonly ExchangeKind[] = ["topic", "direct", "fanout"];

/** @throws {TypeError} naming the option that is wrong. */
export function readOptions(options: RabbitmqBrokerOptions): RabbitmqSettings {
  checkOptionNames("rabbitmqBroker", options, optionNames);
  const { addresses = ["127.0.0.1:5672"], user, password, tls, externalAuth = false, name } = options;
  const { exchange = "micro", exchangeKind = "topic", withoutExchange = false } = options;
  const { durable = false, heartbeatMs = 5_000 } = options;
  const { maxWaiting = 1_000, maxUnconfirmed = 5_000, maxUnconfirmedBytes = 32 * 1024 * 1024 } = options;
  if (!Array.isArray(addresses) || addresses.length === 0)
    throw new TypeError("rabbitmqBroker: `addresses` must be a list of at least one address");
  if ((user === undefined) !== (password === undefined))
    throw new TypeError("rabbitmqBroker: `user` and `password` are only of use together");
  if (typeof exchange !== "string" || exchange === "" || Buffer.byteLength(exchange) > 255)
    throw new TypeError("rabbitmqBroker: `exchange` must be a name of 1 to 255 bytes");
  if (!kinds.includes(exchangeKind))
    throw new TypeError("rabbitmqBroker: `exchangeKind` must be `topic`, `direct` or `fanout`");
  if (!(typeof heartbeatMs === "number" && heartbeatMs >= 1_000 && heartbeatMs <= 3_600_000))
    throw new TypeError("rabbitmqBroker: `heartbeatMs` must be a number from 1000 to 3600000");
  for (const [option, value] of Object.entries({ maxWaiting, maxUnconfirmed, maxUnconfirmedBytes }))
    if (!(typeof value === "number" && value >= (option === "maxWaiting" ? 0 : 1)))
      throw new TypeError(`rabbitmqBroker: \`${option}\` must be a positive number`);
  const nodes = addresses.map((address) => readAddress(address as unknown, tls !== undefined, user, password));
  const certificates = readTls(tls ?? {});
  if (externalAuth && (certificates.cert === undefined || nodes.some(({ secure }) => !secure)))
    throw new TypeError("rabbitmqBroker: `externalAuth` needs TLS with `tls.cert` and `tls.key`");
  return {
    nodes,
    tls: certificates,
    externalAuth,
    exchange: withoutExchange ? "" : exchange,
    exchangeKind,
    durable,
    durableExchange: options.durableExchange ?? durable,
    heartbeatSeconds: Math.round(heartbeatMs / 1_000),
    name,
    maxWaiting,
    maxUnconfirmed,
    maxUnconfirmedBytes,
  };
}

function readAddress(
  address: unknown,
  tls: boolean,
  user: string | undefined,
  password: string | undefined,
): RabbitmqNode {
  const shown = typeof address === "string" ? address.replace(/\/\/[^/]*@/, "//…@") : address;
  const wrong = (): TypeError =>
    new TypeError(
      `rabbitmqBroker: address ${JSON.stringify(shown)} must be amqp://user:password@host:port/vhost, amqps://…, host or host:port, with IPv6 in brackets and names percent-encoded`,
    );
  if (typeof address !== "string") throw wrong();
  const match =
    /^(?:(amqps?):\/\/)?(?:([^\s:@/?#]*)(?::([^\s@/?#]*))?@)?(\[[\da-f:.%]+\]|[^\s:/[\]@?#]+)(?::(\d{1,5}))?(?:\/([^\s/?#]*))?$/i.exec(
      address,
    );
  if (match === null) throw wrong();
  const [, scheme, ownUser, ownPassword, host, ownPort, vhost] = match;
  const secure = tls || scheme?.toLowerCase() === "amqps";
  const port = ownPort ?? (secure ? "5671" : "5672");
  if (Number(port) < 1 || Number(port) > 65_535) throw wrong();
  try {
    return {
      host: host!.replace(/^\[|\]$/g, ""),
      port: Number(port),
      address: `${host}:${port}`,
      secure,
      user: ownUser === undefined ? (user ?? "guest") : decodeURIComponent(ownUser),
      password: ownUser === undefined ? (password ?? "guest") : decodeURIComponent(ownPassword ?? ""),
      vhost: vhost === undefined || vhost === "" ? "/" : decodeURIComponent(vhost),
    };
  } catch {
    throw wrong();
  }
}

function readTls(options: RabbitmqTlsOptions): { ca?: string; cert?: string; key?: string } {
  checkOptionNames("rabbitmqBroker: tls", options, tlsNames);
  const { ca, cert, key } = options;
  if ((cert === undefined) !== (key === undefined))
    throw new TypeError("rabbitmqBroker: `tls.cert` and `tls.key` are only of use together");
  return {
    ...(ca === undefined ? {} : { ca: pem("ca", ca) }),
    ...(cert === undefined ? {} : { cert: pem("cert", cert) }),
    ...(key === undefined ? {} : { key: pem("key", key) }),
  };
}

function pem(name: string, value: string | Uint8Array): string {
  const text = Buffer.from(value).toString();
  if (!text.includes("-----BEGIN "))
    throw new TypeError(`rabbitmqBroker: \`tls.${name}\` must be PEM (-----BEGIN …), not a file name`);
  return text;
}
