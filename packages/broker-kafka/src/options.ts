/** Settings of the Kafka broker, and their check. */
import { checkOptionNames, optionKinds } from "@micro/core";
import type { Logger, OptionNames } from "@micro/core";

/** Certificates in PEM, as text or bytes. */
export interface KafkaTlsOptions {
  /** Authorities that sign the brokers' certificates. Default: the system's. */
  ca?: string | Uint8Array | undefined;
  /** Our certificate, where the brokers want one (mTLS); needs `key`. */
  cert?: string | Uint8Array | undefined;
  /** The private key of `cert`. */
  key?: string | Uint8Array | undefined;
  /** Passphrase of `key`. */
  passphrase?: string | undefined;
  /** The name the brokers' certificates must have. Default: the host of each address. */
  servername?: string | undefined;
}

/** A user. Without TLS `plain` sends the password as it is. */
export interface KafkaSaslOptions {
  mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
  username: string;
  password: string;
}

/** How topics that do not exist are made. What is left out is the cluster's default. */
export interface KafkaTopicOptions {
  partitions?: number | undefined;
  replicationFactor?: number | undefined;
  /** Further settings, e.g. `{ "retention.ms": "86400000" }`. */
  config?: Readonly<Record<string, string>> | undefined;
}

/** Settings of {@link kafkaBroker}; all have defaults. */
export interface KafkaBrokerOptions {
  /** Brokers of one cluster to begin with, `host` or `host:port`; the port is 9092 unless given. Default: `["127.0.0.1:9092"]`, as Go. */
  addresses?: readonly string[] | undefined;
  /** Talk TLS. Certificates are always verified. Default: none. */
  tls?: KafkaTlsOptions | undefined;
  /** Log in. Default: none. */
  sasl?: KafkaSaslOptions | undefined;
  /** What the cluster's logs and quotas call this program. Default: `micro`. */
  clientId?: string | undefined;
  /** Who must have a message before its publish resolves: `all` in-sync replicas, the `leader`, or `none`. Default: `all`. */
  acks?: "all" | "leader" | "none" | undefined;
  /** Compress what is published. Default: none, as Go. */
  compression?: "gzip" | undefined;
  /** Make topics that do not exist when they are published or subscribed to; false: that is `not_found`. Default: with the cluster's defaults. */
  createTopics?: boolean | KafkaTopicOptions | undefined;
  /** A member of a queue that is not heard of for so long loses its partitions, in milliseconds; brokers take 6000 and more unless set otherwise. Default: 10000. */
  sessionTimeoutMs?: number | undefined;
  /** How often members of a queue are heard of, and learn that partitions are shared out anew, in milliseconds. Default: 1000. */
  heartbeatIntervalMs?: number | undefined;
  /** What was handled is committed at most so often, in milliseconds; the more rarely, the more is handled twice after a crash. Default: 200. */
  commitIntervalMs?: number | undefined;
  /** How long a broker holds back an answer while there is nothing new, in milliseconds; a queue's subscription takes up to so long to end. Default: 500. */
  maxWaitMs?: number | undefined;
  /** Bytes taken from one partition at once; a larger message comes alone. Default: 1048576. */
  maxBytesPerPartition?: number | undefined;
  /** A broker that does not answer a request for so long is taken for gone, in milliseconds. Default: 5000. */
  requestTimeoutMs?: number | undefined;
  /** Partitions added to a topic are found after so long at the latest, in milliseconds. Default: 30000. */
  metadataMaxAgeMs?: number | undefined;
  /** Publishes that wait while the cluster is away; further ones fail at once. Default: 1000. */
  maxWaiting?: number | undefined;
  /** Connection changes (info), failures without an error handler (error), what the client says (debug). Default: none. */
  logger?: Logger | undefined;
}

/** Options with defaults, checked. */
export interface KafkaSettings {
  /** `host:port`. */
  readonly addresses: readonly string[];
  readonly tls: { ca?: Buffer; cert?: Buffer; key?: Buffer; passphrase?: string; servername?: string } | undefined;
  readonly sasl: KafkaSaslOptions | undefined;
  readonly clientId: string;
  readonly acks: -1 | 0 | 1;
  readonly compression: "gzip" | undefined;
  readonly createTopics: KafkaTopicOptions | undefined;
  readonly sessionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  readonly commitIntervalMs: number;
  readonly maxWaitMs: number;
  readonly maxBytesPerPartition: number;
  readonly requestTimeoutMs: number;
  readonly metadataMaxAgeMs: number;
  readonly maxWaiting: number;
}

const optionNames: OptionNames<KafkaBrokerOptions> = {
  addresses: true,
  tls: true,
  sasl: true,
  clientId: true,
  acks: true,
  compression: true,
  createTopics: true,
  sessionTimeoutMs: true,
  heartbeatIntervalMs: true,
  commitIntervalMs: true,
  maxWaitMs: true,
  maxBytesPerPartition: true,
  requestTimeoutMs: true,
  metadataMaxAgeMs: true,
  maxWaiting: true,
  logger: optionKinds.logger,
};
const tlsNames: OptionNames<KafkaTlsOptions> = { ca: true, cert: true, key: true, passphrase: true, servername: true };
const saslNames: OptionNames<KafkaSaslOptions> = { mechanism: true, username: true, password: true };
const topicNames: OptionNames<KafkaTopicOptions> = { partitions: true, replicationFactor: true, config: true };

const acksByName = { all: -1, leader: 1, none: 0 } as const;

/** @throws {TypeError} naming the option that is wrong. */
export function readOptions(options: KafkaBrokerOptions): KafkaSettings {
  checkOptionNames("kafkaBroker", options, optionNames);
  const { addresses = ["127.0.0.1:9092"], tls, sasl, clientId = "micro", acks = "all", compression } = options;
  if (!Array.isArray(addresses) || addresses.length === 0)
    throw new TypeError("kafkaBroker: `addresses` must be a list of at least one address");
  if (typeof clientId !== "string" || clientId === "")
    throw new TypeError("kafkaBroker: `clientId` must be a text that is not empty");
  if (!Object.hasOwn(acksByName, acks)) throw new TypeError("kafkaBroker: `acks` must be `all`, `leader` or `none`");
  if (compression !== undefined && compression !== "gzip")
    throw new TypeError("kafkaBroker: `compression` must be `gzip`, or left out");
  const settings = {
    addresses: [...new Set(addresses.map((address) => readAddress(address as unknown)))],
    tls: tls === undefined ? undefined : readTls(tls),
    sasl: sasl === undefined ? undefined : readSasl(sasl),
    clientId,
    acks: acksByName[acks],
    compression,
    createTopics: readTopics(options.createTopics ?? true),
    ...readNumbers(options),
  };
  if (settings.heartbeatIntervalMs >= settings.sessionTimeoutMs)
    throw new TypeError(
      "kafkaBroker: `heartbeatIntervalMs` must be less than `sessionTimeoutMs`, better a third of it or less",
    );
  return settings;
}

function readNumbers(options: KafkaBrokerOptions) {
  const least = {
    sessionTimeoutMs: 1,
    heartbeatIntervalMs: 1,
    commitIntervalMs: 0,
    maxWaitMs: 1,
    maxBytesPerPartition: 1,
    requestTimeoutMs: 1,
    metadataMaxAgeMs: 1,
    maxWaiting: 0,
  };
  const numbers = {
    sessionTimeoutMs: options.sessionTimeoutMs ?? 10_000,
    heartbeatIntervalMs: options.heartbeatIntervalMs ?? 1_000,
    commitIntervalMs: options.commitIntervalMs ?? 200,
    maxWaitMs: options.maxWaitMs ?? 500,
    maxBytesPerPartition: options.maxBytesPerPartition ?? 1_048_576,
    requestTimeoutMs: options.requestTimeoutMs ?? 5_000,
    metadataMaxAgeMs: options.metadataMaxAgeMs ?? 30_000,
    maxWaiting: options.maxWaiting ?? 1_000,
  };
  for (const name of Object.keys(numbers) as (keyof typeof numbers)[])
    if (!(typeof numbers[name] === "number" && numbers[name] >= least[name] && numbers[name] <= 0x7fff_ffff))
      throw new TypeError(`kafkaBroker: \`${name}\` must be a number, ${least[name]} or more`);
  return numbers;
}

function readAddress(address: unknown): string {
  // The client splits an address at its first colon, which leaves no way to give it an IPv6 one.
  const match = typeof address === "string" ? /^([^\s:/[\]@?#]+)(?::(\d{1,5}))?$/.exec(address) : null;
  const port = Number(match?.[2] ?? 9092);
  if (match === null || port < 1 || port > 65_535)
    throw new TypeError(
      `kafkaBroker: address ${JSON.stringify(address)} must be host or host:port, with a name for an IPv6 address`,
    );
  return `${match[1]}:${port}`;
}

function readTls(options: KafkaTlsOptions): KafkaSettings["tls"] {
  checkOptionNames("kafkaBroker: tls", options, tlsNames);
  const { ca, cert, key, passphrase, servername } = options;
  if ((cert === undefined) !== (key === undefined))
    throw new TypeError("kafkaBroker: `tls.cert` and `tls.key` are only of use together");
  return {
    ...(ca === undefined ? {} : { ca: pem("ca", ca) }),
    ...(cert === undefined ? {} : { cert: pem("cert", cert) }),
    ...(key === undefined ? {} : { key: pem("key", key) }),
    ...(passphrase === undefined ? {} : { passphrase }),
    ...(servername === undefined ? {} : { servername }),
  };
}

function pem(name: string, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value);
  if (!bytes.includes("-----BEGIN "))
    throw new TypeError(`kafkaBroker: \`tls.${name}\` must be PEM (-----BEGIN …), not a file name`);
  return bytes;
}

function readSasl(options: KafkaSaslOptions): KafkaSaslOptions {
  checkOptionNames("kafkaBroker: sasl", options, saslNames);
  const { mechanism, username, password } = options;
  if (!["plain", "scram-sha-256", "scram-sha-512"].includes(mechanism))
    throw new TypeError("kafkaBroker: `sasl.mechanism` must be `plain`, `scram-sha-256` or `scram-sha-512`");
  if (typeof username !== "string" || username === "" || typeof password !== "string" || password === "")
    throw new TypeError("kafkaBroker: `sasl` needs `username` and `password`");
  return { mechanism, username, password };
}

function readTopics(options: boolean | KafkaTopicOptions): KafkaTopicOptions | undefined {
  if (typeof options === "boolean") return options ? {} : undefined;
  checkOptionNames("kafkaBroker: createTopics", options, topicNames);
  for (const name of ["partitions", "replicationFactor"] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      throw new TypeError(`kafkaBroker: \`createTopics.${name}\` must be a whole number, 1 or more`);
  }
  for (const [name, value] of Object.entries(options.config ?? {}))
    if (typeof value !== "string")
      throw new TypeError(`kafkaBroker: \`createTopics.config\`: ${JSON.stringify(name)} must be a text`);
  return options;
}
