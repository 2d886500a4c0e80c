/** The settings of the mdns registry. */
import type { Logger } from "../../logger/logger.ts";

/** Settings of `mdnsRegistry()`. All have defaults; peers in Go find services made with these. */
export interface MdnsRegistryOptions {
  /** Domain of all names. Only registries with the same one see each other. Default: `micro`, as Go's. */
  domain?: string | undefined;
  /** How long a look-up collects answers, in milliseconds. It always takes that long. Default: 100, as Go's. */
  timeoutMs?: number | undefined;
  /**
   * Ends a look-up early, once something was found and nothing more came for this many milliseconds. Default: off:
   * a node that answers later than the others would be missed.
   */
  quietMs?: number | undefined;
  /** Network interfaces to use, by name (`eth0`) or address. Default: all, loopback included. */
  interfaces?: readonly string[] | undefined;
  /** Use the loopback interface alone: nothing leaves the machine. Default: false. */
  loopbackOnly?: boolean | undefined;
  /** Time to live in the records, in seconds: how long others may go without asking again. Default: 120, as Go's. */
  ttlSeconds?: number | undefined;
  /** Speak over IPv4 (group 224.0.0.251). Default: true. */
  ipv4?: boolean | undefined;
  /** Speak over IPv6 (group ff02::fb). Default: true; a machine without IPv6 is no error. */
  ipv6?: boolean | undefined;
  /** Host name that address records carry. Default: `os.hostname()`. */
  host?: string | undefined;
  /** UDP port of the group. Go's is fixed to 5353; another one is for tests. Default: 5353. */
  port?: number | undefined;
  /** Where trouble with sockets and ignored packets are reported. Default: nowhere. */
  logger?: Logger | undefined;
}

/** Options with defaults in place. @internal */
export interface MdnsSettings {
  readonly domain: string;
  readonly timeoutMs: number;
  readonly quietMs: number | undefined;
  readonly interfaces: readonly string[] | undefined;
  readonly loopbackOnly: boolean;
  readonly ttlSeconds: number;
  readonly families: readonly Family[];
  /** Undefined: the machine's, asked for when it is needed. */
  readonly host: string | undefined;
  readonly port: number;
  readonly logger: Logger | undefined;
}

/** @internal */
export type Family = "IPv4" | "IPv6";

/** @internal */
export const groups: Readonly<Record<Family, string>> = { IPv4: "224.0.0.251", IPv6: "ff02::fb" };
