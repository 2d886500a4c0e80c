/** Types of `servers.mjs`, for tests. */
export class Unavailable extends Error {}

/** A server process of the tests' own. */
export interface TestServer {
  readonly name: string;
  readonly url: string;
  /** `host:port` */
  readonly address: string;
  readonly folder: string;
  readonly pid: number | undefined;
  /** Start it again: same ports, same folder. Resolves when it is ready. */
  start(): Promise<TestServer>;
  /** What it has logged so far. */
  log(): string;
  /** To the server's own process. */
  signal(signal: NodeJS.Signals): void;
  /** SIGSTOP. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM, and SIGKILL after 15 s. */
  stop(): Promise<void>;
  /** `stop()` and `start()`: same ports, same folder. Resolves when it is ready. */
  restart(): Promise<TestServer>;
  /** Lose what was stored; only while it is down. */
  forget(): void;
  /** `kill()`, `forget()` and `start()`: the same address with nothing in it. */
  wipe(): Promise<TestServer>;
  /** Kill it and remove its folder. */
  dispose(): Promise<void>;
}

/**
 * How Google's conformance runner for protobuf is started, and the folder with its .proto files.
 * @throws {Unavailable}
 */
export function ensureProtobufConformance(
  log?: (line: string) => void,
): Promise<{ readonly command: readonly [string, ...string[]]; readonly protos: string }>;

/** File names. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** File names of {@link makeCertificates}. */
export interface Certificates {
  readonly ca: string;
  readonly otherCa: string;
  readonly server: KeyPair;
  readonly client: KeyPair;
  readonly expired: KeyPair;
}

export interface EtcdOptions {
  readonly members?: number;
  readonly args?: readonly string[];
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string; readonly clientAuth?: boolean };
}

export interface ConsulOptions {
  readonly dev?: boolean;
  readonly config?: string;
  readonly token?: string;
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string };
}

/** TLS of a server; `clientAuth` asks for a client certificate of `ca`. */
export interface ServerTls extends KeyPair {
  readonly ca?: string;
  readonly clientAuth?: boolean;
}

export interface NatsOptions {
  readonly user?: string;
  /** Goes with `user`. */
  readonly password?: string;
  readonly token?: string;
  readonly tls?: ServerTls;
  /** Lines of its configuration file. */
  readonly config?: string;
  readonly args?: readonly string[];
}

export interface KafkaOptions {
  /** Default: "4.3". */
  readonly version?: "4.3" | "3.9";
  /** Adds a listener with TLS. */
  readonly tls?: ServerTls;
  /** Passwords by name. Adds a listener with SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; with `tls` another with both. */
  readonly users?: Readonly<Record<string, string>>;
  /** Further lines of `server.properties`. */
  readonly config?: string;
}

export interface RabbitmqOptions {
  /** Passwords of users besides `guest`, by name. */
  readonly users?: Readonly<Record<string, string>>;
  /** Adds a port with TLS. */
  readonly tls?: ServerTls;
  readonly plugins?: readonly string[];
  /** Lines of `rabbitmq.conf`. */
  readonly config?: string;
}

export interface NatsServer extends TestServer {
  /** Its monitoring endpoint: `/connz`, `/subsz`, `/jsz`. */
  readonly monitorUrl: string;
}

/** `address` is that of the listener without TLS and SASL, which is always there. */
export interface KafkaServer extends TestServer {
  /** `host:port`, with the option `tls`. */
  readonly sslAddress: string | undefined;
  /** `host:port`, with the option `users`. */
  readonly saslAddress: string | undefined;
  /** `host:port`, with both. */
  readonly saslSslAddress: string | undefined;
}

/** `url` has the user `guest`, who may do everything. */
export interface RabbitmqServer extends TestServer {
  /** With the option `tls`. */
  readonly tlsUrl: string | undefined;
  /** What `rabbitmqctl` prints with these arguments. */
  control(...args: readonly string[]): Promise<string>;
}

export type ServerName = "etcd" | "consul" | "nats" | "kafka" | "kafka-3.9" | "rabbitmq";

/** Options of every `start…`: `log` takes a line when the server has to be got first. */
interface Logged {
  readonly log?: (line: string) => void;
}

export const serverNames: readonly ServerName[];
export function ensureServer(name: ServerName, log?: (line: string) => void): Promise<string>;
export function runningServer(name: ServerName): string | undefined;
export function freePorts(count: number): Promise<number[]>;
export function startEtcd(
  options: EtcdOptions & Logged & { readonly members: number },
): Promise<[TestServer, ...TestServer[]]>;
export function startEtcd(options?: EtcdOptions & Logged): Promise<TestServer>;
/** Members of a cluster are ready once they answer, with or without a leader. */
export function startConsul(
  options: ConsulOptions & Logged & { readonly members: 2 | 3 },
): Promise<readonly [TestServer, ...TestServer[]]>;
export function startConsul(options?: ConsulOptions & Logged): Promise<TestServer & { readonly httpsUrl: string }>;
export function startNats(options?: NatsOptions & Logged): Promise<NatsServer>;
export function startKafka(options?: KafkaOptions & Logged): Promise<KafkaServer>;
export function startRabbitmq(options?: RabbitmqOptions & Logged): Promise<RabbitmqServer>;
/** Path of the browser; of the one that `MICRO_TEST_CHROMIUM` names, if it does. @throws {Unavailable} */
export function ensureChromium(log?: (line: string) => void): Promise<string>;
export function makeCertificates(folder: string): Certificates;
