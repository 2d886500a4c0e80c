/**
 * Metadata: the string headers that travel with a call or an event.
 *
 * Names are case-insensitive and kept in Go's canonical form (`micro-id` is `Micro-Id`), which is what every name
 * becomes on go-micro's http wire. What a program passes must be what HTTP can carry, whichever wire it takes: a name or a
 * value that would vanish or change on one of them is refused by all. What peers sent is kept as it came. Nothing here
 * ever becomes an object key.
 */

import { ownText } from "./own-text.ts";

/** What a caller may pass where metadata is asked for. */
export type MetadataInit = Metadata | Readonly<Record<string, string>> | Iterable<readonly [string, string]>;

/** Names come from strangers, too: those that are in use move on from one generation to the next, others are forgotten. */
let canonicalNames = new Map<string, string>();
let earlierNames = new Map<string, string>();
const maxCachedNames = 1024;
const maxCachedNameLength = 64;

/** Characters of a header's name: RFC 9110, 5.1. */
const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// What Go's client refuses in a value (httpguts.ValidHeaderFieldValue).
// oxlint-disable-next-line no-control-regex
const control = /[\u0000-\u0008\u000a-\u001f\u007f]/;

/** Go's canonical header form: upper case at the start and after `-`, lower case elsewhere. */
export function canonicalName(name: string): string {
  const known = canonicalNames.get(name);
  if (known !== undefined) return known;
  if (name.length > maxCachedNameLength) return canonicalForm(name);
  const canonical = earlierNames.get(name) ?? ownText(canonicalForm(name));
  if (canonicalNames.size >= maxCachedNames) {
    earlierNames = canonicalNames;
    canonicalNames = new Map();
  }
  canonicalNames.set(ownText(name), canonical);
  return canonical;
}

function canonicalForm(name: string): string {
  // Go leaves a name with a blank or another character that no header may have as it is.
  return token.test(name)
    ? name.toLowerCase().replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase())
    : name;
}

/** Without blanks and tabs at either end. Not by a regular expression: those look at a long row of blanks from each of them. */
export function withoutOuterBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text.charCodeAt(start))) start++;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** What was passed as metadata, itself if it is some already. @throws {TypeError} as {@link Metadata.set}. @internal */
export function readMetadata(init: MetadataInit): Metadata {
  return init instanceof Metadata ? init : new Metadata(init);
}

/** A case-insensitive map of header names to one value each. */
export class Metadata implements Iterable<[string, string]> {
  #entries: Map<string, string> | undefined;
  #load: (() => Map<string, string>) | undefined;
  #textBytes = 0;
  /** Counts changes, for whoever keeps something made from these entries. @internal */
  revision = 0;

  constructor(init?: MetadataInit) {
    if (init === undefined) return;
    if (init instanceof Metadata) {
      if (init.size > 0) this.#entries = new Map(init.#map());
      return;
    }
    const entries =
      Symbol.iterator in init
        ? (init as Iterable<readonly [string, string]>)
        : Object.entries(init as Record<string, string>);
    for (const [name, value] of entries) this.set(name, value);
  }

  /**
   * Metadata read on first use, for wires that parse headers late. `load` must give canonical names.
   * @param textBytes what is kept for it until then, and may be kept by its values afterwards.
   * @internal
   */
  static lazy(load: () => Map<string, string>, textBytes = 0): Metadata {
    const metadata = new Metadata();
    metadata.#load = load;
    metadata.#textBytes = textBytes;
    return metadata;
  }

  /** Of the head it is read from, in bytes; 0 where it is from none. For whoever keeps it longer than its message. @internal */
  get textBytes(): number {
    return this.#textBytes;
  }

  #map(): Map<string, string> {
    if (this.#entries === undefined) {
      this.#entries = this.#load?.() ?? new Map<string, string>();
      this.#load = undefined;
    }
    return this.#entries;
  }

  get size(): number {
    return this.#entries === undefined && this.#load === undefined ? 0 : this.#map().size;
  }

  get(name: string): string | undefined {
    return this.#map().get(canonicalName(name));
  }

  has(name: string): boolean {
    return this.#map().has(canonicalName(name));
  }

  /**
   * Blanks around a value are not part of it, as in any header.
   * @throws {TypeError} if the value is not a string or holds a line break or another control character, or the name is
   * empty or holds what no header's name may: blanks, colons, letters outside of ASCII.
   */
  set(name: string, value: string): this {
    if (typeof value !== "string")
      throw new TypeError(`metadata ${JSON.stringify(name)}: the value must be a string, not ${typeof value}`);
    if (!token.test(name))
      throw new TypeError(
        name === ""
          ? "metadata: a name is empty"
          : `metadata: ${JSON.stringify(name)} cannot be a name; letters, digits and !#$%&'*+-.^_\`|~ can`,
      );
    if (control.test(value))
      throw new TypeError(
        `metadata ${JSON.stringify(name)}: the value holds a line break or another control character`,
      );
    return this.keep(name, withoutOuterBlanks(value));
  }

  /** `set` of what a peer sent, as it came, whatever it holds. The name may be any text but an empty one. @internal */
  keep(name: string, value: string): this {
    this.#map().set(canonicalName(name), value);
    this.revision++;
    return this;
  }

  delete(name: string): boolean {
    this.revision++;
    return this.#map().delete(canonicalName(name));
  }

  /** A copy with `other`'s entries over these. Go's `metadata.MergeContext` with overwrite. */
  merge(other: MetadataInit | undefined): Metadata {
    const merged = new Metadata(this);
    if (other !== undefined)
      for (const [name, value] of other instanceof Metadata ? other : new Metadata(other))
        merged.#map().set(name, value);
    return merged;
  }

  [Symbol.iterator](): IterableIterator<[string, string]> {
    return this.#map()[Symbol.iterator]();
  }

  /** An object without a prototype, for logs and JSON. */
  toJSON(): Record<string, string> {
    const object = Object.create(null) as Record<string, string>;
    for (const [name, value] of this) object[name] = value;
    return object;
  }
}

/**
 * Headers that describe one message or one connection. A call or publish made inside a handler forwards all of the incoming
 * metadata but these (Go forwards some of them by accident: `Local`, `Remote`, `Micro-Stream`, `Connection`, …).
 *
 * `Micro-From-Service` is not among them: a client sends its own name in it as metadata, in place of the caller's.
 */
export const perMessageHeaders: ReadonlySet<string> = new Set([
  "Accept",
  "Accept-Encoding",
  "Connection",
  "Content-Length",
  "Content-Type",
  "Expect",
  "Host",
  "Http2-Settings",
  "Keep-Alive",
  "Local",
  "Micro-Attempts",
  "Micro-Dead-Topic",
  "Micro-Endpoint",
  "Micro-Error",
  "Micro-Error-Detail",
  "Micro-Id",
  "Micro-Looked-Up",
  "Micro-Method",
  "Micro-Opens",
  "Micro-Protocol",
  "Micro-Retry",
  "Micro-Service",
  "Micro-Stream",
  "Micro-Target",
  "Micro-Topic",
  "Proxy-Authenticate",
  "Proxy-Authorization",
  "Proxy-Connection",
  "Remote",
  "Te",
  "Timeout",
  "Trailer",
  "Transfer-Encoding",
  "Upgrade",
  "User-Agent",
  "X-Micro-Endpoint",
  "X-Micro-Error",
  "X-Micro-Id",
  "X-Micro-Method",
  "X-Micro-Protocol",
  "X-Micro-Service",
  "X-Micro-Stream",
  "X-Micro-Target",
  "X-Micro-Topic",
]);
