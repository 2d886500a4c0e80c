/** Where the http broker of a service listens: on the hosts its server listens on, at a port of its own. */
import { parseListenAddress } from "../net/address.ts";
import { joinAddress, splitAddress } from "../registry/address.ts";

/** @param address the server's. */
export function brokerListenAddress(address: string): string {
  // A socket in the file system is for callers on this machine.
  if (address.startsWith("unix:")) return "127.0.0.1:0";
  try {
    return joinAddress(parseListenAddress(address).host, "0");
  } catch {
    return ":0"; // Some transports have names for addresses; a wrong one is the server's to report.
  }
}

/** The host under which others reach the server reaches the broker, too; its port does not. Undefined for none, or a path. */
export function brokerAdvertise(advertise: string | undefined): string | undefined {
  if (advertise === undefined || advertise.startsWith("unix:")) return undefined;
  return splitAddress(advertise).host;
}
