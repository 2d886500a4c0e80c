/**
 * The address a service advertises: what others dial, made from the address it listens on.
 *
 * Source: go-micro `util/addr/addr.go` and the address handling of `server/rpc_server.go`, by the rule of the newest
 * version.
 */
import { isIP, isIPv6 } from "node:net";
import os from "node:os";
import { MicroError } from "../errors.ts";

/** What `os.networkInterfaces()` gives. */
export type NetworkInterfaces = Readonly<Record<string, readonly os.NetworkInterfaceInfo[] | undefined>>;

/**
 * The `host:port` others reach a listener at (IPv6 in brackets; just the host where no port is given).
 *
 * `address` is the advertise option, or else the bound address. A unix domain socket (`unix:/path`) and a host other than empty, `0.0.0.0` and `::` are kept.
 * Otherwise: the first private address (RFC 1918, fc00::/7) of an interface that is not a loopback, else its first
 * other address, else the first loopback. IPv6 link-local addresses are passed over, since nobody can dial one
 * without a zone.
 * @throws {TypeError} if `address` is not of the form `host`, `host:port` or `[ipv6]:port`.
 * @throws {MicroError} `unavailable` if the host is to be found and no interface has an address.
 */
export function advertiseAddress(address: string, interfaces: NetworkInterfaces = os.networkInterfaces()): string {
  if (address.startsWith("unix:")) return address;
  const { host, port } = splitAddress(address);
  const reachable = isUnspecified(host) ? findHost(interfaces) : host;
  return joinAddress(reachable, port);
}

/** Host and port; the host without brackets, the port undefined where there is none. */
export function splitAddress(address: string): { host: string; port: string | undefined } {
  // A bare IPv6 address, or a name without a port such as the queue names of some transports.
  if (!address.includes(":") || isIP(address) !== 0) return { host: address, port: undefined };
  const bracketed = /^\[([^[\]]*)\](?::(\d*))?$/.exec(address);
  if (bracketed !== null) return { host: bracketed[1]!, port: bracketed[2] };
  const plain = /^([^:[\]]*):(\d*)$/.exec(address);
  if (plain !== null) return { host: plain[1]!, port: plain[2] };
  throw new TypeError(
    `${JSON.stringify(address)} is not an address: write host:port, with IPv6 in brackets as in [::1]:8080`,
  );
}

/** `host:port`, with brackets around IPv6; the host alone without a port. */
export function joinAddress(host: string, port: string | undefined): string {
  if (port === undefined || port === "") return host;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True for the hosts that mean "every interface": empty, `0.0.0.0` and `::`. */
export function isUnspecified(host: string): boolean {
  return host === "" || host === "0.0.0.0" || (isIPv6(host) && /^[0:]+$/.test(host));
}

function findHost(interfaces: NetworkInterfaces): string {
  let fallback: string | undefined;
  let loopback: string | undefined;
  for (const { address, internal } of Object.values(interfaces).flatMap((list) => list ?? [])) {
    if (internal) {
      loopback ??= address;
      continue;
    }
    if (isPrivate(address)) return address;
    if (!/^fe[89ab]/i.test(address)) fallback ??= address;
  }
  const host = fallback ?? loopback;
  if (host === undefined)
    throw new MicroError("no network interface has an address to advertise", {
      id: "go.micro.server",
      code: "unavailable",
    });
  return host;
}

/** Go's `net.IP.IsPrivate`. */
function isPrivate(address: string): boolean {
  if (isIPv6(address)) return /^f[cd][0-9a-f]{2}:/i.test(address);
  const [first = 0, second = 0] = address.split(".").map(Number);
  return first === 10 || (first === 172 && second >= 16 && second <= 31) || (first === 192 && second === 168);
}
