/**
 * The address a service advertises: what others dial, made from the address it listens on.
 *
 * Source: go-micro `util/addr/addr.go` and the address handling of `server/rpc_server.go`, by the rule of the newest
 * version.
 */
import { connect, isIP, isIPv4, isIPv6 } from "node:net";
import os from "node:os";
import { MicroError } from "../errors.ts";

/** What `os.networkInterfaces()` gives. */
export type NetworkInterfaces = Readonly<Record<string, readonly os.NetworkInterfaceInfo[] | undefined>>;

/** What {@link advertiseAddress} may be told beside the address. */
export interface AdvertiseOptions {
  /**
   * What the listener is bound to, where that is not the address itself: only its family, or its one host, can be reached.
   * Default: `address`.
   */
  bound?: string | undefined;
  /** A host that is taken if it is among those to be found: see {@link reachableHost}. */
  preferred?: string | undefined;
}

/**
 * The `host:port` others reach a listener at (IPv6 in brackets; just the host where no port is given).
 *
 * `address` is the advertise option, or else the bound address. A unix domain socket (`unix:/path`) and a host other than empty, `0.0.0.0` and `::` are kept.
 * Otherwise: the host the listener is bound to, if that is one; else the first private address (RFC 1918, fc00::/7) of an
 * interface that is not a loopback, else its first other address, else the first loopback, of a family that the listener
 * takes: `0.0.0.0` is IPv4 alone. IPv6 link-local addresses are passed over, since nobody can dial one without a zone.
 * @throws {TypeError} if `address` is not of the form `host`, `host:port` or `[ipv6]:port`.
 * @throws {MicroError} `unavailable` if the host is to be found and no interface has an address.
 */
export function advertiseAddress(
  address: string,
  interfaces: NetworkInterfaces = os.networkInterfaces(),
  options: AdvertiseOptions = {},
): string {
  if (address.startsWith("unix:")) return address;
  const { host, port } = splitAddress(address);
  if (!isUnspecified(host)) return joinAddress(host, port);
  const hosts = candidates(host, options.bound, interfaces);
  const { preferred } = options;
  return joinAddress(preferred !== undefined && hosts.includes(preferred) ? preferred : hosts[0]!, port);
}

/** How long {@link reachableHost} waits for one address, in milliseconds. */
const reachMs = 1_000;
/** Addresses it tries. */
const maxTried = 8;

/**
 * The first of the hosts {@link advertiseAddress} may choose from at which the listener takes a connection, tried once
 * each: an interface may be there and lead nowhere. Undefined if none does, or nothing has to be chosen; never rejects.
 */
export async function reachableHost(
  address: string,
  bound: string = address,
  interfaces: NetworkInterfaces = os.networkInterfaces(),
): Promise<string | undefined> {
  try {
    if (address.startsWith("unix:") || bound.startsWith("unix:")) return undefined;
    // Where the advertised port differs, something else leads from it to the bound one.
    const port = Number(splitAddress(bound).port);
    const { host } = splitAddress(address);
    if (!isUnspecified(host) || !(port > 0)) return undefined;
    for (const each of candidates(host, bound, interfaces).slice(0, maxTried))
      // oxlint-disable-next-line no-await-in-loop -- the first one that answers is the one
      if (await answers(each, port)) return each;
  } catch {
    // Whatever is wrong is told where the address is needed.
  }
  return undefined;
}

function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: reachMs });
    const end = (reached: boolean) => (): void => {
      socket.destroy();
      resolve(reached);
    };
    socket.once("connect", end(true)).once("timeout", end(false)).once("error", end(false));
  });
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

/** The hosts to choose from, best first. @throws {MicroError} `unavailable` if there is none. */
function candidates(host: string, bound: string | undefined, interfaces: NetworkInterfaces): string[] {
  const listens = bound === undefined ? host : splitAddress(bound).host;
  if (!isUnspecified(listens)) return [listens];
  // The wildcard of IPv6 takes both, but for systems that are set to keep them apart.
  const onlyIPv4 = isIPv4(listens) || isIPv4(host);
  const all = Object.values(interfaces)
    .flatMap((list) => list ?? [])
    .filter(({ address }) => !onlyIPv4 || isIPv4(address));
  const outside = all.filter(({ internal }) => !internal).map(({ address }) => address);
  const hosts = [
    ...outside.filter(isPrivate),
    ...outside.filter((address) => !isPrivate(address) && !/^fe[89ab]/i.test(address)),
    ...all.filter(({ internal }) => internal).map(({ address }) => address),
  ];
  if (hosts.length === 0)
    throw new MicroError(
      `no network interface has an ${onlyIPv4 ? "IPv4 address, where it listens," : "address"} to advertise`,
      {
        id: "go.micro.server",
        code: "unavailable",
      },
    );
  return hosts;
}

/** Go's `net.IP.IsPrivate`. */
function isPrivate(address: string): boolean {
  if (isIPv6(address)) return /^f[cd][0-9a-f]{2}:/i.test(address);
  const [first = 0, second = 0] = address.split(".").map(Number);
  return first === 10 || (first === 172 && second >= 16 && second <= 31) || (first === 192 && second === 168);
}
