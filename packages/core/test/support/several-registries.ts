/** For programs: several registries as one, the last of which is never there. */
import { mdnsRegistry, memoryRegistry, multiRegistry, type MdnsRegistryOptions, type Registry } from "@micro/core";
import { faultyRegistry } from "./faulty-registry.ts";

export function severalRegistries(options: MdnsRegistryOptions): Registry {
  const away = faultyRegistry("away");
  away.down = true;
  return multiRegistry({ write: [memoryRegistry(), mdnsRegistry(options)], read: [away] });
}
