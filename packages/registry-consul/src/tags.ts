/**
 * Records as tags of a Consul service (go-plugins `registry/consul/encoding.go`): `t-` one metadata entry, `e-` one
 * endpoint, `v-` the version, each compressed and in hex; and the older `t=`, `e=`, `v=` in clear.
 */
import { deflateSync, inflateSync } from "node:zlib";
import { MicroError, decodeService, encodeService, type Endpoint, type Service, type StringMap } from "@micro/core";
import { source } from "./errors.ts";

/** What is in a tag may not be larger than this, neither read nor written. */
const maxTagBytes = 256 * 1024;
/** What the tags of one node may take once they are read, in bytes of memory. */
const maxNodeBytes = 8 * 1024 * 1024;
/** Decoded tags kept: nodes of one service share most of theirs. How many, and about how many bytes of memory. */
const maxKept = 20_000;
const maxKeptBytes = 16 * 1024 * 1024;

export interface DecodedTags {
  readonly version: string;
  readonly metadata: StringMap;
  readonly endpoints: readonly Endpoint[];
  /** About how much memory they take, shared or not. */
  readonly bytes: number;
}

/** What a character takes once it is read: of a text, of an endpoint with its objects. */
const textFactor = 4;
const endpointFactor = 8;

/** The tags of a node. @throws {MicroError} `bad_request` for what nobody could read again. */
export function encodeTags(service: Service, metadata: StringMap): string[] {
  const tag = (kind: string, text: string, what: string): string => {
    if (Buffer.byteLength(text) <= maxTagBytes) return `${kind}-${deflateSync(text).toString("hex")}`;
    const shown = what.length > 80 ? `${what.slice(0, 80)}…` : what;
    throw new MicroError(`registry consul: ${shown} of ${service.name} is larger than ${maxTagBytes} bytes`, {
      id: source,
      code: "bad_request",
    });
  };
  return [
    ...Object.entries(metadata).map(([key, value]) =>
      tag("t", JSON.stringify({ [key]: value }), `metadata ${JSON.stringify(key)}`),
    ),
    ...service.endpoints.map((endpoint) => tag("e", endpointJson(endpoint), `endpoint ${endpoint.name}`)),
    tag("v", service.version, "version"),
  ];
}

/** True if the tags are of a go-micro service: each has a version, be it empty. */
export function isOurs(tags: readonly string[]): boolean {
  return tags.some((tag) => tag.startsWith("v-") || tag.startsWith("v="));
}

/** Reads tags; what it has read it remembers. */
export class TagReader {
  readonly #onBroken: (tag: string, reason: string) => void;
  readonly #texts = new KeptTags<string>();
  readonly #endpoints = new KeptTags<{ readonly endpoint: Endpoint | undefined; readonly bytes: number }>();

  constructor(onBroken: (tag: string, reason: string) => void) {
    this.#onBroken = onBroken;
  }

  /** Something is passed over. */
  ignore(what: string, reason: string): void {
    this.#onBroken(what, reason);
  }

  /** Undefined if the tags are somebody else's. Tags that cannot be read are left out. */
  decode(tags: readonly string[]): DecodedTags | undefined {
    let version: string | undefined;
    for (const tag of tags) {
      if (!tag.startsWith("v-") && !tag.startsWith("v=")) continue;
      version = this.#text(tag);
      if (version !== undefined) break;
    }
    if (version === undefined) return undefined;
    const metadata = Object.create(null) as Record<string, string>;
    let bytes = version.length * textFactor;
    const fits = (tag: string): boolean => {
      if (bytes <= maxNodeBytes) return true;
      this.#onBroken(tag, `the node's tags take more than ${maxNodeBytes} bytes of memory`);
      return false;
    };
    for (const tag of ofOneForm(tags, "t")) {
      if (!fits(tag)) break;
      for (const [key, value] of this.#entries(tag)) {
        metadata[key] = value;
        bytes += (key.length + value.length) * textFactor + 64;
      }
    }
    const endpoints: Endpoint[] = [];
    for (const tag of ofOneForm(tags, "e")) {
      if (!fits(tag)) break;
      const read = this.#endpoint(tag);
      bytes += read.bytes;
      if (read.endpoint !== undefined) endpoints.push(read.endpoint);
    }
    return { version, metadata: Object.freeze(metadata), endpoints: Object.freeze(endpoints), bytes };
  }

  #entries(tag: string): [string, string][] {
    const text = this.#text(tag);
    if (text === undefined) return [];
    try {
      const value = JSON.parse(text) as unknown;
      if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Error("not an object");
      return Object.entries(value).map(([key, member]) => {
        if (typeof member !== "string") throw new Error(`value of ${JSON.stringify(key)} is not a string`);
        return [key, member];
      });
    } catch (error) {
      this.#onBroken(tag, (error as Error).message);
      return [];
    }
  }

  #endpoint(tag: string): { readonly endpoint: Endpoint | undefined; readonly bytes: number } {
    const known = this.#endpoints.get(tag);
    if (known !== undefined) return known;
    let endpoint: Endpoint | undefined;
    const text = this.#text(tag);
    if (text !== undefined)
      try {
        endpoint = decodeService(`{"endpoints":[${text}]}`).endpoints[0];
      } catch (error) {
        this.#onBroken(tag, (error as Error).message);
      }
    const read = { endpoint, bytes: endpoint === undefined ? 0 : (text?.length ?? 0) * endpointFactor };
    this.#endpoints.set(tag, read, read.bytes);
    return read;
  }

  #text(tag: string): string | undefined {
    if (tag[1] === "=") return tag.slice(2);
    const known = this.#texts.get(tag);
    if (known !== undefined) return known;
    let text: string;
    try {
      const hex = tag.slice(2);
      if (!/^(?:[\da-f]{2})+$/i.test(hex)) throw new Error("not in hex");
      text = inflateSync(Buffer.from(hex, "hex"), { maxOutputLength: maxTagBytes }).toString();
    } catch (error) {
      this.#onBroken(tag, (error as Error).message);
      return undefined;
    }
    this.#texts.set(tag, text, text.length * 2);
    return text;
  }
}

/** As Go: the form of the first tag of a kind decides, those of the other form are not read. */
function ofOneForm(tags: readonly string[], kind: string): string[] {
  const first = tags.find((tag) => tag.startsWith(`${kind}-`) || tag.startsWith(`${kind}=`));
  return first === undefined ? [] : tags.filter((tag) => tag.startsWith(first.slice(0, 2)));
}

/** What tags say, kept within bounds: beyond them it begins anew. */
class KeptTags<T> {
  readonly #map = new Map<string, T>();
  #bytes = 0;

  get(tag: string): T | undefined {
    return this.#map.get(tag);
  }

  set(tag: string, value: T, bytes: number): void {
    const all = bytes + 2 * tag.length;
    if (this.#map.size >= maxKept || this.#bytes + all > maxKeptBytes) {
      this.#map.clear();
      this.#bytes = 0;
    }
    this.#map.set(tag, value);
    this.#bytes += all;
  }
}

/** One endpoint as Go marshals it. */
function endpointJson(endpoint: Endpoint): string {
  const whole = encodeService({ name: "-", version: "", metadata: {}, endpoints: [endpoint], nodes: [] });
  return whole.slice(whole.indexOf('"endpoints":[') + 13, whole.lastIndexOf('],"nodes":'));
}
