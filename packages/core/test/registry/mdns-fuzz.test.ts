/** Mutated and random packets. MICRO_FUZZ_SECONDS bounds it (default 8), MICRO_FUZZ_SEED repeats a run. */
import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { EntryCollector, readEntry } from "../../src/registry/mdns/entries.ts";
import { mdnsRegistry } from "../../src/registry/mdns/mdns-registry.ts";
import { Neighbourhood } from "../../src/registry/mdns/neighbourhood.ts";
import { decodeMessage, encodeMessage, PacketError } from "../../src/registry/mdns/packet.ts";
import { advertiseNode, answerPacket } from "../../src/registry/mdns/records.ts";
import {
  freeUdpPort,
  goldenAnswer,
  goldenAnswerWith,
  goldenGoTxt,
  goldenListAnswer,
  goldenListQuery,
  goldenQuery,
  greeter,
  RawSocket,
  RecordingLogger,
  waitFor,
} from "./mdns-support.ts";
import { processorMs } from "../support/processor-time.ts";

const seed = Number(process.env["MICRO_FUZZ_SEED"] ?? Math.floor(Math.random() * 0x1_0000_0000)) >>> 0;
const seconds = Number(process.env["MICRO_FUZZ_SECONDS"] ?? 8);
console.info(`mdns fuzz: MICRO_FUZZ_SEED=${seed} MICRO_FUZZ_SECONDS=${seconds}`);

/** Numbers from 0 up to below `limit`, the same for the same seed (mulberry32). */
function randomNumbers(start: number): (limit: number) => number {
  let state = start;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

const service = greeter("greeter-1", "192.168.1.10:9090");
const node = advertiseNode(service, service.nodes[0]!, { domain: "micro", host: "box", ttlSeconds: 120 });
const corpus = [
  goldenQuery,
  goldenAnswer,
  goldenAnswerWith(goldenGoTxt),
  goldenListQuery,
  goldenListAnswer,
  node.probe,
  node.announcement,
  node.goodbye,
];

function mutate(random: (limit: number) => number): Buffer {
  if (random(20) === 0) return Buffer.from(Array.from({ length: random(600) }, () => random(256)));
  let packet = Buffer.from(corpus[random(corpus.length)]!);
  for (let step = random(6); step >= 0 && packet.length > 0; step--) {
    const at = random(packet.length);
    switch (random(7)) {
      case 0:
        packet[at] = random(256);
        break;
      case 1:
        packet[at]! ^= 1 << random(8);
        break;
      case 2:
        packet = packet.subarray(0, at);
        break;
      case 3:
        packet = Buffer.concat([packet.subarray(0, at), packet.subarray(at, at + random(40)), packet.subarray(at)]);
        break;
      case 4:
        packet = Buffer.concat([packet.subarray(0, at), packet.subarray(at + 1 + random(8))]);
        break;
      case 5: {
        const other = corpus[random(corpus.length)]!;
        packet = Buffer.concat([packet.subarray(0, at), other.subarray(random(other.length))]);
        break;
      }
      default:
        if (packet.length < 2) break;
        // Numbers that mean something: pointers, lengths, counts.
        packet.writeUInt16BE(
          [0xc000 | random(0x200), 0xffff, 0, random(0x1_0000)][random(4)]!,
          random(packet.length - 1),
        );
    }
  }
  return packet;
}

describe("mdns packets, mutated", () => {
  it("are read, or refused in one of two ways, in a bounded time", { timeout: seconds * 1_000 + 20_000 }, () => {
    const random = randomNumbers(seed);
    const end = performance.now() + seconds * 1_000;
    let rounds = 0;
    let read = 0;
    // Small bounds, so that they are met: what is kept of packets, and of the nodes they speak of.
    const collector = new EntryCollector(undefined, 20_000);
    const known = new Neighbourhood({
      settings: {} as never,
      refresh: async () => {},
      list: async () => [],
      spend: () => {},
      maxBytes: 20_000,
    });
    const close = known.watch({ domain: "micro", service: undefined, emit: () => {} });
    while (performance.now() < end) {
      const packet = mutate(random);
      const started = processorMs();
      try {
        const message = decodeMessage(packet);
        read++;
        answerPacket(node, message);
        // What was read can be written again, and reads the same.
        const again = decodeMessage(encodeMessage(message, { compress: rounds % 2 === 0 }));
        expect(again).toEqual(message);
        const origin = { source: `10.0.0.${random(300)}`, proven: random(10) === 0 };
        for (const entry of collector.add(message, origin)) {
          readEntry(entry, "micro");
          known.hear(entry, "micro", "announced", origin);
        }
        expect(collector.bytes).toBeLessThanOrEqual(60_000);
        expect(known.bytes).toBeLessThanOrEqual(20_000);
      } catch (error) {
        const refused = error instanceof PacketError || (MicroError.is(error) && error.code === "codec");
        if (!refused)
          throw new Error(`seed ${seed}, round ${rounds}, packet ${packet.toString("hex")}`, { cause: error });
      }
      expect(processorMs() - started, `seed ${seed}, round ${rounds}`).toBeLessThan(2_000);
      rounds++;
    }
    close();
    expect(known.bytes).toBe(0);
    expect(rounds).toBeGreaterThan(0);
    expect(read).toBeGreaterThan(0);
  });

  it("leave a registry that receives them working", { timeout: seconds * 1_000 + 20_000 }, async () => {
    const random = randomNumbers(seed ^ 0x5eed);
    const logger = new RecordingLogger();
    const port = await freeUdpPort();
    const rest = { port, loopbackOnly: true, ipv6: false };
    await using registry = mdnsRegistry({ ...rest, logger });
    await using other = mdnsRegistry(rest);
    await using watcher = registry.watch();
    await watcher.ready;
    void (async () => {
      for await (const _ of watcher);
    })().catch(() => {});
    await registry.register(greeter("steady", "127.0.0.1:1", { name: "steady" }));
    await using sender = await RawSocket.open();
    const end = performance.now() + Math.min(seconds, 5) * 1_000;
    while (performance.now() < end) {
      for (let index = 0; index < 50; index++) await sender.multicast(mutate(random), port);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor(async () => expect(await other.getService("steady")).toHaveLength(1));
    expect(logger.records.filter(({ level }) => level === "warn" || level === "error")).toEqual([]);
  });
});
