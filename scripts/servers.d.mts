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
  /** SIGSTOP. */
  freeze(): void;
  /** SIGCONT. */
  thaw(): void;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGTERM. */
  stop(): Promise<void>;
  /** Lose what was stored; only while it is down. */
  forget(): void;
  /** Kill it and remove its folder. */
  dispose(): Promise<void>;
}

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

export function ensureServer(name: "etcd" | "consul", log?: (line: string) => void): Promise<string>;
export function runningServer(name: "etcd" | "consul"): string | undefined;
export function freePorts(count: number): Promise<number[]>;
export function startEtcd(options: EtcdOptions & { readonly members: number }): Promise<TestServer[]>;
export function startEtcd(options?: EtcdOptions): Promise<TestServer>;
export function startConsul(options?: ConsulOptions): Promise<TestServer & { readonly httpsUrl: string }>;
export function makeCertificates(folder: string): Certificates;
