/**
 * Peers of the fast wire that send and take what they please: a listener keeps no more than `docs/limits.md` says, serves others
 * meanwhile, and keeps nothing once they are gone. Time: MICRO_FUZZ_MEMORY_SECONDS (default 8); seed: MICRO_FUZZ_SEED, printed.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { fromCallers, heldBytes, toCallers } from "../../src/transport/fast/held-bytes.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import type { ServerExchange } from "../../src/transport/transport.ts";
import { defineRoute, FastPeer, frame } from "../support/fast-peer.ts";
import { waitFor } from "../support/raw-socket.ts";

const seconds = Number(process.env["MICRO_FUZZ_MEMORY_SECONDS"] ?? 8);
const seed = Number(process.env["MICRO_FUZZ_SEED"] ?? Date.now() % 0x7fff_ffff);
process.stdout.write(`fast wire memory fuzz: MICRO_FUZZ_SEED=${seed} MICRO_FUZZ_MEMORY_SECONDS=${seconds}\n`);

const mebibyte = 1024 * 1024;
const maxMessageBytes = mebibyte;
const limit = 4 * maxMessageBytes;
const peerCount = 10;
const noise = Buffer.alloc(maxMessageBytes, 7);

let state = seed || 1;
/** xorshift: below `most`. */
function below(most: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % most;
}

function size(): number {
  return [0, below(20), below(1_000), below(30_000)][below(4)]!;
}

function finish(exchange: ServerExchange): void {
  exchange.reply({ contentType: "x", body: noise.subarray(0, size() * below(30)) });
}

/** Mostly right frames of one connection; some that end it. */
class Hostile {
  readonly peer: FastPeer;
  #nextId = 3;

  constructor(peer: FastPeer) {
    this.peer = peer;
  }

  #someId(): number {
    return Math.max(1, this.#nextId - 2 - 2 * below(30));
  }

  frame(): Buffer {
    const kind = below(100);
    if (kind < 40) {
      const id = this.#nextId;
      this.#nextId += 2;
      const flags = below(3) === 2 ? 2 : below(2);
      const body = noise.subarray(0, flags === 2 ? 0 : size());
      const timeout = below(4) === 0 ? [0, 0, below(3), below(256)] : undefined;
      const fields = Buffer.from([0, 1, ...(timeout ?? [])]);
      return frame(2, flags | (timeout === undefined ? 0 : 4), id, Buffer.concat([fields, body]));
    }
    if (kind < 75) return frame(3, [0, 1, 2, 1][below(4)]!, this.#someId(), noise.subarray(0, size()));
    if (kind < 80) return frame(4, 0, this.#someId());
    if (kind < 85) return frame(5, 0, this.#someId(), [0, 1]);
    if (kind < 92) return frame(6, 0, this.#someId(), [0, below(3), below(256), below(256)]);
    if (kind < 96) return frame(7, 0, 0, "12345678");
    if (kind < 99) return defineRoute(1 + below(3));
    return below(20) === 0 ? frame(below(256), below(256), below(50), noise.subarray(0, size())) : defineRoute();
  }
}

it(`keeps what it may and no more, for ${seconds} s`, { timeout: (seconds + 60) * 1_000 }, async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const before = { fromCallers: fromCallers.limit, toCallers: toCallers.limit };
  fromCallers.limit = limit;
  toCallers.limit = limit;
  const transport = httpTransport();
  const waiting: ServerExchange[] = [];
  let ending = false;
  const listener = await transport.listen(
    (exchange) => {
      if (exchange.endpoint === "T.Honest") exchange.reply({ contentType: "x", body: exchange.body });
      else if (exchange.opened === "stream") {
        const stream = exchange.stream();
        void (async () => {
          for (let body = await stream.receive(); body !== undefined; body = await stream.receive())
            if (below(2) === 0) await stream.send({ contentType: "x", body });
          stream.end();
        })().catch(() => stream.end());
      } else if (ending || below(2) === 0) finish(exchange);
      else waiting.push(exchange);
    },
    { address: "127.0.0.1:0", maxMessageBytes },
  );
  const client = httpTransport({ direct: false });
  const connect = async (): Promise<Hostile> => new Hostile(await FastPeer.connect(listener.address));
  const peers = await Promise.all(Array.from({ length: peerCount }, connect));
  collect();
  const base = process.memoryUsage().arrayBuffers;
  const most = { fromCallers: 0, toCallers: 0, arrayBuffers: 0 };
  const look = (): void => {
    const held = heldBytes();
    most.fromCallers = Math.max(most.fromCallers, held.fromCallers);
    most.toCallers = Math.max(most.toCallers, held.toCallers);
    // A connection may always hold 16 KiB.
    expect(held.fromCallers).toBeLessThanOrEqual(limit + 2 * peerCount * 16_384);
    expect(held.toCallers).toBeLessThanOrEqual(limit);
    expect(Math.min(held.fromCallers, held.toCallers)).toBeGreaterThanOrEqual(0);
  };
  const until = performance.now() + seconds * 1_000;
  for (let round = 0; performance.now() < until; round++) {
    for (const [index, hostile] of peers.entries()) {
      const { peer } = hostile;
      if (peer.raw.closed || below(200) === 0) {
        peer[Symbol.dispose]();
        peers[index] = await connect();
      } else if (peer.raw.socket.writableLength < 100_000) {
        peer.write(...Array.from({ length: 1 + below(20) }, () => hostile.frame()));
        // Some take nothing for a while.
        if (below(30) === 0) peer.raw.socket.pause();
        else peer.raw.socket.resume();
        peer.frames.length = 0;
        peer.raw.received = "";
      }
      look();
    }
    while (waiting.length > 200 || (waiting.length > 0 && below(3) === 0)) finish(waiting.shift() as ServerExchange);
    look();
    await new Promise((resolve) => setImmediate(resolve));
    look();
    if (round % 50 !== 0) continue;
    const body = Buffer.from(`round ${round}`);
    const request = { service: "test", endpoint: "T.Honest", contentType: "x", metadata: undefined, body };
    const reply = await client.call(listener.address, request, {
      wire: "micro/1",
      deadline: performance.now() + 10_000,
    });
    expect(Buffer.from(reply.body).equals(body)).toBe(true);
    collect();
    most.arrayBuffers = Math.max(most.arrayBuffers, process.memoryUsage().arrayBuffers - base);
  }
  // It was driven to where it matters.
  if (seconds >= 3) expect(most.fromCallers).toBeGreaterThan(limit / 4);
  // Up to three times what is counted; and for each connection what the system did not take, on both sides.
  expect(most.arrayBuffers).toBeLessThan(3 * 2 * limit + peerCount * 4 * mebibyte);
  for (const { peer } of peers) peer[Symbol.dispose]();
  await client[Symbol.asyncDispose]();
  ending = true;
  for (const exchange of waiting) finish(exchange);
  await waitFor(() => Object.values(heldBytes()).every((bytes) => bytes === 0), "nothing is held");
  await listener[Symbol.asyncDispose]();
  await transport[Symbol.asyncDispose]();
  Object.assign(fromCallers, { limit: before.fromCallers });
  Object.assign(toCallers, { limit: before.toCallers });
  process.stdout.write(`fast wire memory fuzz: at most ${JSON.stringify(most)}\n`);
});
