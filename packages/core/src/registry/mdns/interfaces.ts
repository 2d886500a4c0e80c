/** Which network interfaces discovery speaks on. */
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
