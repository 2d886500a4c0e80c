/** Settings of the http broker. */
import { portLimitNames, type PortLimitOptions, type PortLimits } from "../../net/port-limits.ts";
import type { OptionNames } from "../../option-check.ts";
import { optionKinds } from "../../option-kinds.ts";
import type { Logger } from "../../logger/logger.ts";
import type { Registry } from "../../registry/registry.ts";
import type { HttpTlsOptions } from "../../net/tls.ts";

/** Settings of `httpBroker()`. Only `registry` has no default. */
export interface HttpBrokerOptions extends PortLimitOptions {
  /** Where subscriptions are registered and found. It stays its owner's: disconnecting does not close it. */
  registry: Registry;
  /** Told what no error handler is there for. Default: nothing is logged. */
  logger?: Logger | undefined;
  /**
   * Where subscriptions receive: `host:port`, `host:first-last` or a path of a unix domain socket as `unix:/path`. Default: `:0`, a free
   * port on all interfaces. Nothing is bound before the first subscription: a program that only publishes opens no port.
   */
  address?: string | undefined;
  /**
   * What publishers are told to dial: a host, or `host:port`; without a port (or with port 0) the bound one. Default:
   * the bound address, a wildcard replaced by an address of this machine that others can reach.
   */
  advertise?: string | undefined;
  /** Receive over TLS; without a certificate a self-signed one is made. Default: true if `tls` has a certificate. */
  secure?: boolean | undefined;
  /**
   * Certificates and authorities, of receiving and of publishing. A broker with `tls` or `secure` sends nothing in clear, whatever a
   * node's record says. Default: none; nodes that say they are secure are published to over TLS, and the system's authorities are trusted.
   */
  tls?: HttpTlsOptions | undefined;
  /** Publish to secure nodes whatever certificate they show, as go-micro v2 does. Default: false. */
  insecureSkipVerify?: boolean | undefined;
  /**
   * Largest body of a message, in bytes, published and received. A larger one is refused with `too_large`. On the wire base64 makes it a
   * third larger, and its header may add 256 KiB. Default: 4194304 (4 MiB).
   */
  maxMessageBytes?: number | undefined;
  /** Publishes under way at once; further ones are refused with `unavailable`. Default: 10000. */
  maxPublishes?: number | undefined;
  /** Registry domain. Default: none. */
  domain?: string | undefined;
  /**
   * When the registry shows a subscription here, publishers elsewhere may not know of it yet: its `ready` waits so much
   * longer, in milliseconds. Default: 100, and 0 with the memory registry.
   */
  spreadMs?: number | undefined;
}

export const optionNames: OptionNames<HttpBrokerOptions> = {
  registry: optionKinds.registry,
  logger: optionKinds.logger,
  address: true,
  advertise: true,
  secure: true,
  tls: true,
  insecureSkipVerify: true,
  maxMessageBytes: true,
  maxPublishes: true,
  domain: true,
  spreadMs: true,
  ...portLimitNames,
};

/** The options with their defaults. */
export interface HttpBrokerSettings {
  readonly registry: Registry;
  readonly logger: Logger;
  readonly address: string;
  readonly advertise: string | undefined;
  readonly secure: boolean;
  readonly tls: HttpTlsOptions | undefined;
  readonly insecureSkipVerify: boolean;
  readonly maxMessageBytes: number;
  readonly portLimits: PortLimits;
  readonly maxPublishes: number;
  readonly domain: string | undefined;
  readonly spreadMs: number;
}

const mostHeaderBytes = 256 * 1024;

/** Bytes of the largest envelope. */
export function wireBytes(maxMessageBytes: number): number {
  return Math.ceil(maxMessageBytes / 3) * 4 + mostHeaderBytes;
}

/** Id of the broker's errors. */
export const id = "go.micro.broker.http";
