/** Where records lie in etcd: `/micro/registry/[<domain>/]<service>/<node id>` (go-micro `registry/etcd/etcd.go`). */

/** The domain that means every domain, for look-ups. */
export const allDomains = "*";

export interface KeyParts {
  /** As written in the key, where `/` is `-`. */
  readonly service: string;
  readonly node: string;
}

/** The layout below one namespace. */
export class KeyLayout {
  readonly #base: string;

  constructor(namespace: string) {
    this.#base = `${namespace}/micro/registry/`;
  }

  node(domain: string | undefined, service: string, node: string): Buffer {
    return Buffer.from(`${this.#service(domain, service)}${encode(node)}`);
  }

  /** Prefix of all keys of one service; of everything for all domains, where the service is one level or two below. */
  service(domain: string | undefined, service: string): Buffer {
    return Buffer.from(domain === allDomains ? this.#base : this.#service(domain, service));
  }

  /** Prefix of all keys of a domain. Without one, keys of the domains are below it, too: {@link KeyLayout.parse} tells. */
  all(domain: string | undefined): Buffer {
    return Buffer.from(domain === undefined || domain === allDomains ? this.#base : `${this.#base}${encode(domain)}/`);
  }

  /** The parts of a key of the domain; undefined if it belongs to another, or to somebody else. */
  parse(key: Buffer, domain: string | undefined): KeyParts | undefined {
    const text = key.toString();
    if (!text.startsWith(this.#base)) return undefined;
    const parts = text.slice(this.#base.length).split("/");
    const levels = parts.length - 2;
    if (levels < 0 || levels > 1 || parts.includes("")) return undefined;
    if (domain !== allDomains && (levels === 0 ? undefined : parts[0]) !== (domain && encode(domain))) return undefined;
    return { service: parts[levels]!, node: parts[levels + 1]! };
  }

  #service(domain: string | undefined, service: string): string {
    return `${this.#base}${domain === undefined ? "" : `${encode(domain)}/`}${encode(service)}/`;
  }
}

/** As Go: a name's own slashes are dashes. */
export function encode(name: string): string {
  return name.replaceAll("/", "-");
}

/** The end of the range of all keys with a prefix. */
export function endOfPrefix(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix);
  // Prefixes end in a slash, so the last byte can always grow.
  end[end.length - 1]! += 1;
  return end;
}
