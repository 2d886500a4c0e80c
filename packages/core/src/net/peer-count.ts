/** Connections by the address they come from, so that one peer does not take all places. */
import type { Socket } from "node:net";

export class PeerCount {
  readonly #max: number;
  readonly #open = new Map<string, number>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Addresses with open connections that are counted. */
  get size(): number {
    return this.#open.size;
  }

  /** Counted until the socket closes. @returns false if its address has too many. */
  admit(socket: Socket): boolean {
    const key = peerKey(socket.remoteAddress);
    if (key === undefined) return true;
    const open = this.#open.get(key) ?? 0;
    if (open >= this.#max) return false;
    this.#open.set(key, open + 1);
    socket.once("close", () => {
      const left = (this.#open.get(key) ?? 1) - 1;
      if (left === 0) this.#open.delete(key);
      else this.#open.set(key, left);
    });
    return true;
  }
}

/** What one peer is known by: its IPv4 address, or the IPv6 network of which it has all addresses. Undefined for this machine. */
export function peerKey(address: string | undefined): string | undefined {
  if (address === undefined || address === "::1" || address.startsWith("127.")) return undefined;
  if (address.startsWith("::ffff:") && address.includes(".")) return peerKey(address.slice(7));
  if (!address.includes(":")) return address;
  const [head = "", tail] = (address.split("%")[0] as string).split("::");
  const groups = head === "" ? [] : head.split(":");
  const last = tail === undefined || tail === "" ? [] : tail.split(":");
  if (tail !== undefined) while (groups.length + last.length < 8) groups.push("0");
  return [...groups, ...last].slice(0, 4).join(":");
}
