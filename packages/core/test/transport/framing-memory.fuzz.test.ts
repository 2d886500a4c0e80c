/**
 * What half-received messages of many connections keep, fuzzed: never more than `docs/limits.md` says, and nothing at the end.
 * Time: MICRO_FUZZ_MEMORY_SECONDS (default 8); seed: MICRO_FUZZ_SEED, printed.
 */
import { expect, it } from "vitest";
import { ByteAccount, type ByteHolder } from "../../src/net/byte-account.ts";
import { FramingError } from "../../src/transport/http/framing-error.ts";
import { MessageParser } from "../../src/transport/http/message-parser.ts";

const seconds = Number(process.env["MICRO_FUZZ_MEMORY_SECONDS"] ?? 8);
const seed = Number(process.env["MICRO_FUZZ_SEED"] ?? Date.now() % 0x7fff_ffff);
process.stdout.write(`framing memory fuzz: MICRO_FUZZ_SEED=${seed} MICRO_FUZZ_MEMORY_SECONDS=${seconds}\n`);

const maxBytes = 2_000_000;
const limits = { maxHeaderBytes: 50_000, maxMessageBytes: 400_000 };

let state = seed || 1;
/** xorshift: below `limit`. */
function below(limit: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

/** A parser on the account, as a connection has one, and the rest of what its peer is about to send. */
class Peer implements ByteHolder {
  readonly parser: MessageParser;
  kept = 0;
  messages = 0;
  over = false;
  #rest: Buffer = Buffer.alloc(0);

  constructor(account: ByteAccount) {
    this.parser = new MessageParser(
      "request",
      limits,
      () => void this.messages++,
      (delta) => {
        if (!account.change(this, delta)) throw new FramingError(503, "too much");
        this.kept += delta;
        expect(this.kept).toBeGreaterThanOrEqual(0);
      },
    );
  }

  evict(): void {
    this.over = true;
    this.parser.stop();
    expect(this.kept).toBe(0);
  }

  step(): void {
    if (this.#rest.length === 0) this.#rest = next();
    const length = Math.min(this.#rest.length, 1 + below(below(8) === 0 ? 64 * 1024 : 3_000));
    const piece = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    const action = below(40);
    try {
      if (action === 0) this.parser.hold();
      else if (action < 4) this.parser.release();
      this.parser.push(Buffer.from(piece));
    } catch (error) {
      expect(error).toBeInstanceOf(FramingError);
      this.evict();
    }
  }
}

/** Something a peer may send: mostly good, some of it too large, some of it broken. */
function next(): Buffer {
  const head = `POST / HTTP/1.1\r\nX: ${"h".repeat(below(10) === 0 ? below(60_000) : below(200))}\r\n`;
  const length = below(5) === 0 ? below(450_000) : below(5_000);
  if (below(30) === 0) return Buffer.from(`${head}broken\r\n\r\n`);
  if (below(2) === 0) return Buffer.from(`${head}Content-Length: ${length}\r\n\r\n${"b".repeat(length)}`);
  const size = 1 + below(length + 1);
  let chunks = "";
  for (let at = 0; at < length; at += size) {
    const part = Math.min(size, length - at);
    chunks += `${part.toString(16)}\r\n${"c".repeat(part)}\r\n`;
    if (chunks.length > 500_000) break;
  }
  return Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`);
}

it(
  "half-received messages keep no more than they may, and give all of it back",
  { timeout: (seconds + 60) * 1_000 },
  () => {
    const all = new ByteAccount(maxBytes * 10);
    const account = new ByteAccount(maxBytes, all);
    const peers = Array.from({ length: 60 }, () => new Peer(account));
    const end = performance.now() + seconds * 1_000;
    let most = 0;
    let given = 0;
    let messages = 0;
    for (let step = 0; step % 64 !== 0 || performance.now() < end; step++) {
      const at = below(peers.length);
      const peer = peers[at]!;
      peer.step();
      if (account.bytes > most) most = account.bytes;
      expect(account.bytes).toBeLessThanOrEqual(maxBytes);
      if (peer.over) {
        given++;
        messages += peer.messages;
        peers[at] = new Peer(account);
      }
      if (step % 1_024 === 0) {
        const kept = peers.reduce((sum, one) => sum + one.kept, 0);
        expect(account.bytes).toBe(kept);
        expect(all.bytes).toBe(kept);
      }
    }
    // The bound was met, and work was done beneath it.
    expect(most).toBeGreaterThan(maxBytes * 0.8);
    expect(given).toBeGreaterThan(0);
    expect(messages + peers.reduce((sum, one) => sum + one.messages, 0)).toBeGreaterThan(0);
    for (const peer of peers) peer.parser.stop();
    expect([account.bytes, account.holders, all.bytes, all.holders]).toEqual([0, 0, 0, 0]);
  },
);
