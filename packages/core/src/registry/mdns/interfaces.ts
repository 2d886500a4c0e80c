/** Which network interfaces discovery speaks on. */
import { BlockList, isIPv4 } from "node:net";
import os from "node:os";
import type { Family, MdnsSettings } from "./options.ts";

/** One interface and family. */
export interface MulticastInterface {
  readonly name: string;
  readonly address: string;
  /** What `setMulticastInterface` and `addMembership` call it. */
  readonly selector: string;
}

/** The interfaces that are up and have an address of the family, as they are now. */
export function multicastInterfaces(
  settings: Pick<MdnsSettings, "interfaces" | "loopbackOnly">,
  family: Family,
  all: NodeJS.Dict<os.NetworkInterfaceInfo[]> = os.networkInterfaces(),
): MulticastInterface[] {
  const found: MulticastInterface[] = [];
  for (const [name, addresses = []] of Object.entries(all)) {
    const usable = addresses.filter(
      (info) =>
        info.family === family &&
        (!settings.loopbackOnly || info.internal) &&
        (settings.interfaces === undefined ||
          settings.interfaces.includes(name) ||
          settings.interfaces.includes(info.address)),
    );
    // One address stands for the interface; of IPv6 the link-local one, whose scope identifies it.
    const info = usable.find(({ scopeid }) => scopeid !== undefined && scopeid !== 0) ?? usable[0];
    if (info === undefined) continue;
    // Windows knows IPv6 interfaces by number, others by name.
    const scope = process.platform === "win32" ? (info.scopeid ?? 0) : name;
    found.push({ name, address: info.address, selector: family === "IPv4" ? info.address : `::%${scope}` });
  }
  return found;
}

/** How long the networks we are on are taken for what they were, in milliseconds. */
const networksMs = 5_000;

/**
 * Says of addresses whether they are on a network of ours. Multicast DNS is for the local link (RFC 6762 section 11):
 * whoever is elsewhere, and reaches the port all the same, is not heard and not answered.
 */
export class LocalLink {
  readonly #interfaces: () => NodeJS.Dict<os.NetworkInterfaceInfo[]>;
  #networks: BlockList | undefined;
  #readAt = 0;

  /** @param interfaces Default: the machine's, read again every 5 s. */
  constructor(interfaces: () => NodeJS.Dict<os.NetworkInterfaceInfo[]> = os.networkInterfaces) {
    this.#interfaces = interfaces;
  }

  has(address: string): boolean {
    const now = performance.now();
    if (this.#networks === undefined || now - this.#readAt > networksMs) {
      this.#networks = networksOf(this.#interfaces());
      this.#readAt = now;
    }
    const plain = address.replace(/%.*$/, "");
    return this.#networks.check(plain, isIPv4(plain) ? "ipv4" : "ipv6");
  }
}

function networksOf(interfaces: NodeJS.Dict<os.NetworkInterfaceInfo[]>): BlockList {
  const networks = new BlockList();
  networks.addSubnet("127.0.0.0", 8, "ipv4");
  networks.addSubnet("169.254.0.0", 16, "ipv4");
  networks.addAddress("::1", "ipv6");
  // Who has no address of its own, as Go's queries on a machine with a loopback interface only: no router passes it on.
  networks.addAddress("0.0.0.0", "ipv4");
  networks.addSubnet("fe80::", 10, "ipv6");
  for (const { address, cidr, family } of Object.values(interfaces).flatMap((list) => list ?? [])) {
    const prefix = Number(cidr?.split("/")[1]);
    // A point-to-point address says nothing of who is at the other end.
    if (family === "IPv4" && prefix === 32) networks.addSubnet("0.0.0.0", 0, "ipv4");
    else if (prefix >= 0) networks.addSubnet(address.replace(/%.*$/, ""), prefix, family === "IPv4" ? "ipv4" : "ipv6");
  }
  return networks;
}
