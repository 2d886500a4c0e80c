/**
 * What a stranger who reaches a port can make it keep and wait for: one set of limits for every port this library opens.
 * `docs/limits.md` lists them.
 */

import type { OptionNames } from "../option-check.ts";

/** Limits of a port; all have defaults. Times are kept to about a second. */
export interface PortLimitOptions {
  /** Connections open at once; further ones are closed at once. Default: 10000. */
  maxConnections?: number | undefined;
  /**
   * Connections open at once from one address, IPv6 by its /64; further ones are closed at once. Peers on this machine are not counted:
   * a sidecar proxy speaks for everybody. Default: half of `maxConnections`.
   */
  maxConnectionsPerAddress?: number | undefined;
  /** The first request must begin so soon after connecting, or after a TLS handshake, which may take as long itself; in milliseconds. Default: 10000. */
  firstRequestTimeoutMs?: number | undefined;
  /** A message that has begun must make progress within this time, and its headers be complete, in milliseconds. Default: 30000. */
  stalledTimeoutMs?: number | undefined;
  /**
   * Body bytes that must have come for each second the body takes, from `stalledTimeoutMs` on: a body that trickles ends, however busily.
   * Time during which this side does not read is not counted. Default: 4096.
   */
  minBytesPerSecond?: number | undefined;
  /** A connection with nothing to do is closed when nothing came for so long, in milliseconds. Default: 300000. */
  idleTimeoutMs?: number | undefined;
  /**
   * Bytes kept of messages that are not complete, all connections together; past it those that take longest are refused.
   * At least twice the largest message. Default: 268435456 (256 MiB). All ports of the process together: 512 MiB.
   */
  maxUnfinishedBytes?: number | undefined;
  /**
   * Bytes kept of replies that are not taken, beside 1 MiB for each connection; past it the connections that have been slow for the
   * longest time are closed. Default: 268435456 (256 MiB). All ports of the process together: 512 MiB.
   */
  maxUnsentBytes?: number | undefined;
}

/** For those who take them among options of their own. */
export const portLimitNames: OptionNames<PortLimitOptions> = {
  maxConnections: true,
  maxConnectionsPerAddress: true,
  firstRequestTimeoutMs: true,
  stalledTimeoutMs: true,
  minBytesPerSecond: true,
  idleTimeoutMs: true,
  maxUnfinishedBytes: true,
  maxUnsentBytes: true,
};

/** {@link PortLimitOptions} with all their defaults. */
export type PortLimits = { readonly [Name in keyof PortLimitOptions]-?: number };

const mebibyte = 1024 * 1024;

/** @param maxMessageBytes the largest message the port takes. @throws {TypeError} for a limit that is not above 0. */
export function portLimits(options: PortLimitOptions, maxMessageBytes: number): PortLimits {
  const maxConnections = options.maxConnections ?? 10_000;
  const limits: PortLimits = {
    maxConnections,
    maxConnectionsPerAddress: options.maxConnectionsPerAddress ?? Math.ceil(maxConnections / 2),
    firstRequestTimeoutMs: options.firstRequestTimeoutMs ?? 10_000,
    stalledTimeoutMs: options.stalledTimeoutMs ?? 30_000,
    minBytesPerSecond: options.minBytesPerSecond ?? 4_096,
    idleTimeoutMs: options.idleTimeoutMs ?? 300_000,
    maxUnfinishedBytes: Math.max(options.maxUnfinishedBytes ?? 256 * mebibyte, 2 * maxMessageBytes),
    maxUnsentBytes: options.maxUnsentBytes ?? 256 * mebibyte,
  };
  for (const [name, value] of Object.entries(limits))
    if (!(value > 0)) throw new TypeError(`\`${name}\` must be greater than 0, not ${value}`);
  return limits;
}

/** How long a connection may do nothing, in ticks of a second, and what it has to bring. */
export interface SweepLimits {
  /** Until the first request begins; for those that are being closed, until they are. */
  readonly first: number;
  readonly stalled: number;
  readonly idle: number;
  readonly bytesPerTick: number;
}

export function sweepLimits(limits: PortLimits): SweepLimits {
  return {
    first: limits.firstRequestTimeoutMs / 1e3,
    stalled: limits.stalledTimeoutMs / 1e3,
    idle: limits.idleTimeoutMs / 1e3,
    bytesPerTick: limits.minBytesPerSecond,
  };
}
