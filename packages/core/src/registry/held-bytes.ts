/** About how much memory a record takes, for bounds: a short text can be large once it is read. */
import type { Endpoint, Node, Service, StringMap, Value } from "./registry.ts";

// Measured with Node 24 on 64 bits, rounded up: an object with its fields, a frozen map without a prototype.
const objectBytes = 128;
const mapBytes = 256;
const memberBytes = 64;
const textBytes = 24;

/** Everything of a service. */
export function heldBytes({ name, version, metadata, endpoints, nodes }: Service): number {
  let bytes = objectBytes + text(name) + text(version) + heldByMap(metadata) + heldByEndpoints(endpoints);
  for (const node of nodes) bytes += heldByNode(node);
  return bytes;
}

export function heldByNode({ id, address, metadata }: Node): number {
  return objectBytes + text(id) + text(address) + heldByMap(metadata);
}

export function heldByMap(map: StringMap): number {
  let bytes = 0;
  for (const [key, value] of Object.entries(map)) bytes += memberBytes + text(key) + text(value);
  return bytes === 0 ? 0 : bytes + mapBytes;
}

export function heldByEndpoints(endpoints: readonly Endpoint[]): number {
  const known = measured.get(endpoints);
  if (known !== undefined) return known;
  let bytes = 0;
  for (const { name, request, response, metadata } of endpoints)
    bytes += objectBytes + text(name) + heldByValue(request) + heldByValue(response) + heldByMap(metadata);
  // Lists that are read are frozen, and shared by what is made of them.
  if (Object.isFrozen(endpoints)) measured.set(endpoints, bytes);
  return bytes;
}

const measured = new WeakMap<readonly Endpoint[], number>();

function heldByValue(value: Value | null): number {
  if (value === null) return 0;
  let bytes = objectBytes + text(value.name) + text(value.type);
  for (const member of value.values ?? []) bytes += heldByValue(member);
  return bytes;
}

/** Texts of two bytes a character are as rare as they are costly. */
function text(value: string): number {
  return textBytes + value.length * 2;
}

/** About what parsed JSON takes once it is read; negative if that is more than `maxBytes`. */
export function heldByJson(value: unknown, maxBytes: number): number {
  let left = maxBytes;
  const waiting: unknown[] = [value];
  while (waiting.length > 0 && left >= 0) {
    const next = waiting.pop();
    if (typeof next === "string") left -= text(next);
    else if (typeof next !== "object" || next === null) left -= textBytes;
    else if (Array.isArray(next)) {
      left -= memberBytes;
      // Their number alone may be beyond the bound.
      if (next.length * textBytes > left) return -1;
      for (const member of next) waiting.push(member);
    } else {
      left -= objectBytes;
      for (const [key, member] of Object.entries(next)) {
        left -= key.length * 2;
        waiting.push(member);
      }
    }
  }
  return left < 0 ? -1 : maxBytes - left;
}
