/**
 * Addresses as go-micro writes them: `host:port`, `:0`, `[::1]:80`, and for listening a range `host:5000-6000`. Beside them
 * `unix:/path`, a socket in the file system, for peers on one machine.
 */
import { MicroError } from "../errors.ts";

export interface ListenAddress {
  /** Empty for all interfaces. IPv6 without brackets. */
  readonly host: string;
  readonly firstPort: number;
  /** The same as `firstPort` unless a range was given. */
  readonly lastPort: number;
  /** Of a unix domain socket; host and ports say nothing then. */
  readonly path?: string;
}

const unixPrefix = "unix:";
/** What every system takes, its closing NUL included: macOS 104, Linux 108. */
const maxPathBytes = 103;

/** The path of `unix:/path`. @throws {MicroError} `bad_request` */
function unixPath(address: string): string | undefined {
  if (!address.startsWith(unixPrefix)) return undefined;
  const path = address.slice(unixPrefix.length);
  if (path === "" || path.includes("\0")) return bad(address, "expected unix:/path");
  if (Buffer.byteLength(path) > maxPathBytes)
    return bad(address, `the path of a socket has at most ${maxPathBytes} bytes`);
  return path;
}

/** The address of a unix domain socket. */
export function formatPath(path: string): string {
  return `${unixPrefix}${path}`;
}

/** @throws {MicroError} `bad_request` */
export function parseListenAddress(address: string): ListenAddress {
  const path = unixPath(address);
  if (path !== undefined) return { host: "", firstPort: 0, lastPort: 0, path };
  const text = address === "" ? ":0" : address;
  const [host, ports] = split(text) ?? bad(address, "expected host:port");
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(ports);
  if (match === null) return bad(address, "the port is not a number or a range of numbers");
  const firstPort = Number(match[1]);
  const lastPort = match[2] === undefined ? firstPort : Number(match[2]);
  if (firstPort > 65_535 || lastPort > 65_535) return bad(address, "a port is larger than 65535");
  if (lastPort < firstPort) return bad(address, "the port range ends before it begins");
  return { host, firstPort, lastPort };
}

export interface DialAddress {
  readonly host: string;
  readonly port: number;
  /** Of a unix domain socket; the port says nothing then. */
  readonly path?: string;
}

/** @throws {MicroError} `bad_request`, `notRun` */
export function parseDialAddress(address: string): DialAddress {
  const path = unixPath(address);
  if (path !== undefined) return { host: "localhost", port: 0, path };
  const [host, port] = split(address) ?? bad(address, "expected host:port");
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535 || Number(port) === 0)
    return bad(address, "the port is not a number from 1 to 65535");
  return { host: dialHost(host), port: Number(port) };
}

/** A wildcard is where one listens; to dial it means this machine, as in Go (`net.Dial`). */
function dialHost(host: string): string {
  if (host === "" || host === "::") return "localhost";
  return host === "0.0.0.0" ? "127.0.0.1" : host;
}

/** `host:port` with IPv6 in brackets. */
export function formatAddress(host: string | undefined, port: number | undefined): string {
  if (host === undefined || port === undefined) return "";
  // A dual-stack socket sees IPv4 peers as mapped addresses; Go prints them as IPv4.
  if (host.startsWith("::ffff:") && host.includes(".")) return `${host.slice(7)}:${port}`;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

function split(address: string): [host: string, port: string] | undefined {
  const colon = address.lastIndexOf(":");
  if (colon === -1) return undefined;
  const host = address.slice(0, colon);
  const port = address.slice(colon + 1);
  const bracketed = /^\[([0-9A-Fa-f:.]+(?:%[^\]\s]+)?)\]$/.exec(host);
  if (bracketed !== null) return [bracketed[1] as string, port];
  return /[:[\]\s/@]/.test(host) ? undefined : [host, port];
}

function bad(address: string, reason: string): never {
  throw new MicroError(`${JSON.stringify(address)} is not an address: ${reason}`, {
    id: "transport.http",
    code: "bad_request",
    notRun: true,
  });
}
