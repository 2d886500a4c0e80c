/** Node filters: which nodes of a service may be used for a call. Go's `client/selector/filter.go`. */
import type { NodeFilter } from "./selector.ts";

/** Only nodes that run `version`, compared as text. Go's `FilterVersion`. */
export function filterVersion(version: string): NodeFilter {
  return named(`version=${version}`, (_node, service) => service.version === version);
}

/** Only nodes whose metadata has `key` with exactly this `value`. Go's `FilterLabel`. */
export function filterLabel(key: string, value: string): NodeFilter {
  return named(`label ${key}=${value}`, ({ metadata }) => Object.hasOwn(metadata, key) && metadata[key] === value);
}

/** Only nodes whose version offers the endpoint, e.g. `Greeter.Hello`. Go's `FilterEndpoint`. */
export function filterEndpoint(name: string): NodeFilter {
  return named(`endpoint=${name}`, (_node, service) => service.endpoints.some((endpoint) => endpoint.name === name));
}

/** Only the nodes at these addresses (`host:port`, as registered). */
export function filterAddress(...addresses: readonly string[]): NodeFilter {
  const wanted = new Set(addresses);
  return named(`address=${addresses.join("|")}`, ({ address }) => wanted.has(address));
}

/** The name of a filter is what error texts call it. */
function named(name: string, filter: NodeFilter): NodeFilter {
  return Object.defineProperty(filter, "name", { value: name });
}
