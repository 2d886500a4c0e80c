/** What strangers on the network can make a registry keep, read and send. */
import { setImmediate } from "node:timers/promises";
import { deflateSync } from "node:zlib";
import { afterEach, describe, expect, it, vi } from "vitest";
import { heldBytes } from "../../src/registry/held-bytes.ts";
import { Budget } from "../../src/registry/mdns/budget.ts";
import { EntryCollector, type Entry } from "../../src/registry/mdns/entries.ts";
import { FairTable } from "../../src/registry/mdns/fair-table.ts";
import { LocalLink } from "../../src/registry/mdns/interfaces.ts";
import { mdnsRegistry } from "../../src/registry/mdns/mdns-registry.ts";
import { maxServiceBytes, Neighbourhood } from "../../src/registry/mdns/neighbourhood.ts";
import { encodeMessage, flagsAnswer, type Message, type Record } from "../../src/registry/mdns/packet.ts";
import { advertiseNode, question } from "../../src/registry/mdns/records.ts";
import { decodeTxt, encodeTxt, maxInflatedBytes } from "../../src/registry/mdns/txt.ts";
import { collectNow } from "@micro/testing";
import { registryWatcher, type WatchSink } from "../../src/registry/watch-stream.ts";
import type { Registry, RegistryEvent } from "../../src/registry/registry.ts";
import { freeUdpPort, greeter, RawSocket, RecordingLogger, waitFor } from "./mdns-support.ts";

const mebibyte = 1024 * 1024;
const port = await freeUdpPort();
let domains = 0;

function options() {
  return { port, loopbackOnly: true, ipv6: false, domain: `flood${++domains}` };
}

function strings(json: string): string[] {
  const known = deflated.get(json);
  if (known !== undefined) return known;
  const text = deflateSync(json).toString("hex");
  const made = Array.from({ length: Math.ceil(text.length / 255) }, (_, at) => text.slice(at * 255, at * 255 + 255));
  deflated.set(json, made);
  return made;
}

/** Making bombs takes longer than defusing them. */
const deflated = new Map<string, string[]>();

/** The packet of one forged instance. */
function forged(id: string, service: string, domain: string, txt: readonly string[]): Buffer {
  const name = `${id}.${service}.${domain}.`;
  const answers: Record[] = [
    { type: "SRV", name, ttl: 4_000_000, priority: 0, weight: 0, port: 1, target: "h." },
    { type: "A", name: "h.", ttl: 120, address: Uint8Array.of(10, 0, 0, 1) },
    { type: "TXT", name, ttl: 4_000_000, strings: txt },
  ];
  return encodeMessage({ flags: flagsAnswer, answers }, { compress: true });
}

function tiny(id: string, service: string, domain: string): Buffer {
  return forged(id, service, domain, encodeTxt({ service, version: "1", endpoints: [], metadata: {} }));
}

async function flood(sender: RawSocket, packets: Iterable<Buffer>): Promise<void> {
  let sent = 0;
  for (const packet of packets) {
    void sender.multicast(packet, port);
    // As fast as they are taken, for the most part.
    if (++sent % 20 === 0) await setImmediate();
  }
}

/** The ids of the nodes a watch says are there. */
async function present(registry: Registry, service?: string): Promise<Set<string>> {
  const watcher = registry.watch({ service });
  await watcher.ready;
  const ids = new Set<string>();
  void (async () => {
    for await (const { action, service: told } of watcher)
      for (const { id } of told.nodes)
        if (action === "delete") ids.delete(id);
        else ids.add(id);
  })().catch(() => ids.add("the watch failed"));
  return ids;
}

/** Bytes in use; garbage, which may be collected at any time, does not count. */
function memory(): number {
  collectNow();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const mapOf = (count: number): string =>
  Array.from({ length: count }, (_, index) => `"key${index}":"value ${index}"`).join();
const pad = (bytes: number): string => " ".repeat(bytes);
const endpoints = (count: number): string => `"Endpoints":[${"{},".repeat(count)}{}]`;
const padded = (length: number): string => `{"Service":"s","Version":"1"${" ".repeat(length - 29)}}`;
const manyEndpoints = (count: number): string => `{"Service":"s","Endpoints":[${"{},".repeat(count)}{}]}`;
const kept = (source: string, bytes = 10, proven = false) => ({ source, bytes, proven });
const from = (source: string, proven = false) => ({ source, proven });
const interfaceAt = (address: string, prefix: number, family: "IPv4" | "IPv6" = "IPv4") =>
  ({ address, cidr: `${address}/${prefix}`, family, internal: false, mac: "", netmask: "" }) as never;

describe("a flood of forged announcements", () => {
  const kinds: { [name: string]: (index: number, domain: string) => Buffer } = {
    "1 MiB each, of services nobody asked for": (index, domain) =>
      forged(
        `n${index}`,
        `s${index % 50}`,
        domain,
        strings(`{"Service":"s${index % 50}","Version":"1"${pad(mebibyte)}}`),
      ),
    "1 MiB each, of the service that is watched": (index, domain) =>
      forged(`n${index}`, "greeter", domain, strings(`{"Service":"greeter","Version":"1"${pad(mebibyte)}}`)),
    "as much as a record may say, of the service that is watched": (index, domain) =>
      forged(
        `n${index}`,
        "greeter",
        domain,
        strings(
          `{"Service":"greeter","Version":"1","Metadata":{"x":"${index % 50}${"x".repeat(maxInflatedBytes - 100)}"}}`,
        ),
      ),
    "small texts of many objects, of the service that is watched": (index, domain) =>
      forged(
        `n${index}`,
        "greeter",
        domain,
        strings(`{"Service":"greeter","Version":"${index % 50}",${endpoints(8_000)}}`),
      ),
  };
  for (const watched of ["greeter", undefined])
    for (const [kind, make] of Object.entries(kinds))
      it(`${kind}, takes bounded memory and hides nobody, ${watched === undefined ? "all services" : "one service"} watched`, async () => {
        const { domain, ...rest } = options();
        await using registry = mdnsRegistry({ ...rest, domain });
        const ids = await present(registry, watched);
        await using sender = await RawSocket.open();
        const packets = Array.from({ length: 1_500 }, (_, index) => make(index, domain));
        const before = memory();
        await flood(sender, packets);
        await using other = mdnsRegistry({ ...rest, domain });
        await other.register(greeter("honest", "127.0.0.1:1"));
        await waitFor(() => expect([...ids]).toContain("honest"), 8_000);
        expect([...ids]).not.toContain("the watch failed");
        expect(memory() - before).toBeLessThan(160 * mebibyte);
      });

  for (const watched of ["greeter", undefined])
    it(`of 10 500 tiny instances hides nobody, ${watched === undefined ? "all services" : "one service"} watched`, async () => {
      const { domain, ...rest } = options();
      await using registry = mdnsRegistry({ ...rest, domain });
      const ids = await present(registry, watched);
      await using sender = await RawSocket.open();
      const packets = function* (): Iterable<Buffer> {
        for (let index = 0; index < 10_500; index++) yield tiny(`n${index}`, watched ?? `s${index}`, domain);
      };
      await flood(sender, packets());
      await using other = mdnsRegistry({ ...rest, domain });
      await other.register(greeter("honest", "127.0.0.1:1"));
      await waitFor(() => expect([...ids]).toContain("honest"), 8_000);
      expect([...ids]).not.toContain("the watch failed");
    });

  it("that goes on finds look-ups, watchers and those who are looked for at work", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    const ids = await present(registry, "greeter");
    await using sender = await RawSocket.open();
    const stop = new AbortController();
    let rounds = 0;
    const flooding = (async () => {
      for (; !stop.signal.aborted; rounds++)
        await flood(
          sender,
          Array.from({ length: 50 }, (_, of) => tiny(`n${rounds}-${of}`, "greeter", domain)),
        );
    })();
    try {
      await waitFor(() => expect(rounds).toBeGreaterThan(50), 20_000);
      await using other = mdnsRegistry({ ...rest, domain });
      await other.register(greeter("honest", "127.0.0.1:1"));
      await waitFor(() => expect([...ids]).toContain("honest"), 10_000);
      await waitFor(async () => {
        const found = await registry.getService("greeter");
        expect(found.flatMap(({ nodes }) => nodes.map(({ id }) => id))).toContain("honest");
      }, 10_000);
    } finally {
      stop.abort();
      await flooding;
    }
  });
});

describe("questions of strangers", () => {
  it("are answered with so many bytes a second, however many they are; then again", async () => {
    const { domain, ...rest } = options();
    const logger = new RecordingLogger();
    await using registry = mdnsRegistry({ ...rest, domain, logger });
    const metadata = {
      noise: Array.from({ length: 2_000 }, () => Math.random().toString(36))
        .join("")
        .slice(0, 20_000),
    };
    await registry.register(greeter("a", "127.0.0.1:1", { nodes: [{ id: "a", address: "127.0.0.1:1", metadata }] }));
    await using asker = await RawSocket.open();
    const query = encodeMessage({ id: 1, questions: [question(`greeter.${domain}.`)] }, { compress: false });
    const started = performance.now();
    for (let index = 0; index < 3_000; index++) {
      void asker.multicast(query, port);
      if (index % 10 === 0) await setImmediate();
    }
    // What came before this one has been read, and what was answered before that has arrived.
    await waitFor(async () => {
      await asker.multicast(Buffer.from("no packet"), port);
      expect(logger.records.filter(({ message }) => message.includes("ignored"))).not.toEqual([]);
    });
    await asker.send(Buffer.from("done"), asker.port);
    await waitFor(() => expect(asker.received.map(String)).toContain("done"));
    const bytes = asker.received.reduce((sum, packet) => sum + packet.length, 0);
    const seconds = (performance.now() - started) / 1_000;
    expect(asker.received.length).toBeGreaterThan(50);
    expect(bytes).toBeLessThan(4 * mebibyte + seconds * mebibyte * 0.5 + 100_000);
    const before = asker.received.length;
    await waitFor(async () => {
      await asker.multicast(query, port);
      expect(asker.received.length).toBeGreaterThan(before);
    });
  });

  it("are read up to so many bytes a second, however many they are; then again", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    await registry.register(greeter("a", "127.0.0.1:1"));
    await registry.register(greeter("b", "127.0.0.1:1", { name: "other" }));
    await using asker = await RawSocket.open();
    const questions = [question(`greeter.${domain}.`)];
    const filler: Record = {
      type: "TXT",
      name: "x.",
      ttl: 1,
      strings: Array.from({ length: 235 }, () => "x".repeat(250)),
    };
    const large = encodeMessage({ id: 1, questions, additionals: [filler] }, { compress: false });
    const started = performance.now();
    for (let index = 0; index < 300; index++) {
      await asker.multicast(large, port);
      await setImmediate();
    }
    // One that is small is passed over like the others, until there is something left for it.
    const small = encodeMessage({ id: 2, questions: [question(`other.${domain}.`)] }, { compress: false });
    await waitFor(async () => {
      await asker.multicast(small, port);
      expect(asker.received.filter((packet) => packet.includes("other"))).not.toEqual([]);
    });
    const seconds = (performance.now() - started) / 1_000;
    const read = asker.received.filter((packet) => packet.includes("greeter")).length;
    expect(read).toBeGreaterThan(40);
    expect(read * large.length).toBeLessThan((4 + seconds) * mebibyte + 2 * large.length);
  });
});

describe("answers to questions of ours", () => {
  it("are read up to so many bytes a second, however many they are; then again", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain, timeoutMs: 10_000, quietMs: 1_000 });
    await using answerer = await RawSocket.open(port);
    // Reading one is reckoned as four times its text: 2 MiB.
    const txt = strings(`{"Service":"greeter","Version":"1"${pad(maxInflatedBytes - 100)}}`);
    const answers = Array.from({ length: 200 }, (_, index) => forged(`n${index}`, "greeter", domain, txt));
    const answer = async (asker: number): Promise<void> => {
      for (const each of answers.splice(0)) {
        await answerer.send(each, asker);
        await setImmediate();
      }
    };
    answerer.onPacket = (_question, asker) => void answer(asker);
    const idsOf = async (): Promise<string[]> =>
      (await registry.getService("greeter")).flatMap(({ nodes }) => nodes.map(({ id }) => id));
    const started = performance.now();
    const found = (await idsOf()).length;
    const seconds = (performance.now() - started) / 1_000;
    expect(found).toBeGreaterThan(50);
    expect(found).toBeLessThan(64 + seconds * 8 + 2);
    answerer.onPacket = (_question, asker) => void answerer.send(tiny("honest", "greeter", domain), asker);
    await waitFor(async () => expect(await idsOf()).toContain("honest"), 25_000);
  });
});

describe("a TXT record", () => {
  it("is inflated up to its bound and not a byte further, whatever it promises", () => {
    expect(padded(maxInflatedBytes)).toHaveLength(maxInflatedBytes);
    expect(decodeTxt(strings(padded(maxInflatedBytes))).service).toBe("s");
    for (const length of [maxInflatedBytes + 1, 30 * mebibyte]) {
      let spent = 0;
      const read = () => decodeTxt(strings(padded(length)), (bytes) => (spent += bytes));
      expect(read).toThrow(/inflates to more than 524288 bytes/);
      expect(spent).toBe(maxInflatedBytes);
    }
  });

  it("is refused if reading it would take more than 2 MiB", () => {
    expect(decodeTxt(strings(manyEndpoints(1_000))).endpoints).toHaveLength(1_001);
    expect(() => decodeTxt(strings(manyEndpoints(20_000)))).toThrow(expect.objectContaining({ code: "codec" }));
  });

  it("that nobody would read cannot be registered", async () => {
    await using registry = mdnsRegistry(options());
    const metadata = { long: "x".repeat(maxInflatedBytes) };
    const registering = registry.register(
      greeter("a", "127.0.0.1:1", { nodes: [{ id: "a", address: "127.0.0.1:1", metadata }] }),
    );
    await expect(registering).rejects.toMatchObject({ code: "bad_request" });
  });
});

const large = (id: string) => greeter(id, "127.0.0.1:1", { metadata: { x: "x".repeat(100_000) } });

function slowWatch() {
  let sink: WatchSink | undefined;
  const open = async (given: WatchSink) => {
    sink = given;
    return () => {};
  };
  const watcher = registryWatcher({ open, maxQueuedBytes: mebibyte });
  return { watcher, emit: (id: string) => sink!.emit({ action: "create", service: large(id) }) };
}

describe("a watch that is read slowly", () => {
  it("keeps so many bytes, then says that its reader has to list again", async () => {
    const slow = slowWatch();
    for (let index = 0; index < 6; index++) slow.emit(`n${index}`);
    await expect(slow.watcher[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: "unavailable" });
    // What was read is given back.
    const { watcher, emit } = slowWatch();
    const iterator = watcher[Symbol.asyncIterator]();
    for (let index = 0; index < 50; index++) {
      emit(`n${index}`);
      emit(`m${index}`);
      for (let read = 0; read < 2; read++) expect((await iterator.next()).done).toBe(false);
    }
    await watcher[Symbol.asyncDispose]();
  });

  it("keeps 1024 events and 16 MiB unless it is told otherwise", async () => {
    for (const [count, make] of [
      [1_024, (id: string) => greeter(id, "127.0.0.1:1")],
      // Two bytes a character.
      [Math.floor((16 * mebibyte) / heldBytes(large("n10"))), large],
    ] as const) {
      let sink!: WatchSink;
      const watcher = registryWatcher({
        open: async (given) => {
          sink = given;
          return () => {};
        },
      });
      for (let index = 0; index < count; index++) sink.emit({ action: "create", service: make(`n${10 + index}`) });
      const iterator = watcher[Symbol.asyncIterator]();
      expect((await iterator.next()).done).toBe(false);
      sink.emit({ action: "create", service: make("n10") });
      expect((await iterator.next()).done).toBe(false);
      for (const id of ["n10", "n11"]) sink.emit({ action: "create", service: make(id) });
      await expect(iterator.next()).rejects.toMatchObject({ code: "unavailable" });
      await watcher[Symbol.asyncDispose]();
    }
  });
});

describe("a fair table", () => {
  it("pushes out the oldest of whoever holds most, and lets newcomers in", () => {
    const table = new FairTable(100);
    for (let index = 0; index < 8; index++) table.set(`flood ${index}`, kept("1"));
    for (let index = 0; index < 2; index++) table.set(`quiet ${index}`, kept("2"));
    expect([...table.set("new", kept("3")).keys()]).toEqual(["flood 0"]);
    expect([...table.set("large", kept("1", 20)).keys()]).toEqual(["flood 1", "flood 2"]);
    expect(table.has("quiet 0")).toBe(true);
    expect(table.bytes).toBe(100);
  });

  it("keeps what has proven itself as long as anything else is there", () => {
    const table = new FairTable(50);
    for (let index = 0; index < 4; index++) table.set(`proven ${index}`, kept("1", 10, true));
    table.set("other", kept("2"));
    expect([...table.set("new", kept("1")).keys()]).toEqual(["other"]);
    expect([...table.set("more", kept("1", 10, true)).keys()]).toEqual(["new"]);
    expect([...table.set("unproven", kept("3")).keys()]).toEqual(["unproven"]);
    expect([...table.set("last", kept("3", 10, true)).keys()]).toEqual(["proven 0"]);
  });

  it("counts what it gives back: replaced, deleted, cleared", () => {
    const table = new FairTable(100);
    for (let round = 0; round < 50; round++) {
      table.set("a", kept("1", 30, round % 2 === 0));
      table.set("b", kept("2", 30));
      expect(table.bytes).toBe(60);
      table.delete("a");
      table.delete("a");
      expect(table.bytes).toBe(30);
    }
    for (let index = 0; index < 1_000; index++) table.set(`${index}`, kept(`${index}`, 1));
    expect(table.bytes).toBe(100);
    for (const [name] of table.entries()) table.delete(name);
    expect([table.bytes, table.size]).toEqual([0, 0]);
    table.set("c", kept("1"));
    table.clear();
    expect([table.bytes, table.size]).toEqual([0, 0]);
    expect(table.set("alone", kept("1", 101)).has("alone")).toBe(true);
    expect(table.bytes).toBe(0);
  });
});

describe("a budget", () => {
  it("gives each address its rate and burst, and all of them together theirs", () => {
    let now = 0;
    const budget = new Budget({ each: { rate: 10, burst: 100 }, all: { rate: 30, burst: 250 }, now: () => now });
    budget.spend("a", 100);
    expect(budget.allows("a")).toBe(false);
    expect(budget.allows("b")).toBe(true);
    now += 100;
    expect(budget.allows("a")).toBe(true);
    budget.spend("a", 31);
    now += 2_900;
    expect(budget.allows("a")).toBe(false);
    now += 200;
    expect(budget.allows("a")).toBe(true);
    now += 1_000_000;
    for (const address of ["a", "b", "c"]) budget.spend(address, 90);
    expect(budget.allows("d")).toBe(false);
    now += 1_000;
    expect(budget.allows("d")).toBe(true);
  });
});

describe("the local link", () => {
  it("is what our interfaces are on, and nothing else", () => {
    const link = new LocalLink(() => ({
      eth0: [interfaceAt("192.168.7.5", 24), interfaceAt("fd00:7::5", 64, "IPv6")],
    }));
    for (const near of ["192.168.7.200", "127.0.0.9", "169.254.3.4", "fd00:7::9", "fe80::1%eth0", "::1"])
      expect(link.has(near), near).toBe(true);
    for (const far of ["192.168.8.1", "8.8.8.8", "10.0.0.1", "fd00:8::1", "2001:db8::1"])
      expect(link.has(far), far).toBe(false);
  });

  it("hears who has no address of its own: Go asks so where there is a loopback interface only", () => {
    const link = new LocalLink(() => ({ lo: [interfaceAt("127.0.0.1", 8)] }));
    expect(link.has("0.0.0.0")).toBe(true);
    expect(link.has("0.0.0.1")).toBe(false);
  });

  it("is everybody where an interface has a point-to-point address, which says nothing", () => {
    const link = new LocalLink(() => ({ eth0: [interfaceAt("10.128.0.2", 32)] }));
    expect(link.has("10.128.0.77")).toBe(true);
  });
});

describe("what is known of the neighbourhood", () => {
  const domain = "micro";
  const opened: (() => void)[] = [];
  afterEach(() => {
    vi.restoreAllMocks();
    opened.splice(0).forEach((close) => close());
  });

  function neighbourhood(maxBytes?: number, service: string | undefined = "greeter") {
    const events: string[] = [];
    const asked: string[] = [];
    const known = new Neighbourhood({
      settings: {} as never,
      refresh: async (name) => void asked.push(name),
      list: async () => [],
      spend: () => {},
      maxBytes,
    });
    const emit = ({ action, service: told }: RegistryEvent): void => void events.push(`${action} ${told.nodes[0]?.id}`);
    const close = known.watch({ domain, service, emit });
    opened.push(close);
    return { known, events, asked, close };
  }

  function entryOf(id: string, ttl = 120, metadata = {}, service = "greeter"): Entry {
    const node = { id, address: "10.0.0.1:1", metadata };
    const answers = advertiseNode(greeter(id, node.address, { name: service, nodes: [node] }), node, {
      domain,
      host: "h",
      ttlSeconds: ttl,
    }).answer(question(`${service}.${domain}.`));
    return new EntryCollector().add({ answers, additionals: [] } as unknown as Message)[0]!;
  }

  it("is about services that are watched, and of these within bytes", () => {
    const { known, events } = neighbourhood();
    expect(known.wants(`a.other.${domain}.`)).toBe(false);
    known.hear(entryOf("a", 120, {}, "other"), domain, "announced", from("1"));
    expect([known.bytes, events]).toEqual([0, []]);
    const metadata = { x: "x".repeat(100_000) };
    for (let index = 0; index < 400; index++)
      known.hear(entryOf(`n${index}`, 120, { ...metadata, index: `${index}` }), domain, "announced", from("1"));
    expect(known.bytes).toBeGreaterThan(maxServiceBytes / 2);
    expect(known.bytes).toBeLessThanOrEqual(maxServiceBytes);
    expect(events.filter((event) => event.startsWith("create"))).toHaveLength(400);
    // Who was pushed out is said to be gone.
    expect(events).toContain("delete n0");
    expect(events).not.toContain("delete n399");
  });

  it("keeps who has answered, and asks when more comes than it can keep", async () => {
    const { known, events, asked } = neighbourhood(20_000);
    known.hear(entryOf("honest"), domain, "answered", from("1", true));
    for (let index = 0; index < 200; index++) known.hear(entryOf(`n${index}`), domain, "announced", from("1"));
    expect(known.bytes).toBeLessThanOrEqual(20_000);
    expect(events).toContain("delete n0");
    expect(events).not.toContain("delete honest");
    await waitFor(() => expect(asked).toEqual(["greeter"]));
    // One that was announced, and answers.
    known.hear(entryOf("n200"), domain, "announced", from("1"));
    known.hear(entryOf("n200"), domain, "answered", from("1", true));
    for (let index = 300; index < 500; index++) known.hear(entryOf(`n${index}`), domain, "announced", from("1"));
    expect(events).not.toContain("delete n200");
  });

  it("remembers 2000 goodbyes, of which copies are not told of again", () => {
    vi.spyOn(performance, "now").mockReturnValue(1_000);
    const { known, events } = neighbourhood();
    const goodbye = (index: number): void => known.hear(entryOf(`n${index}`, 0), domain, "announced", from("1"));
    for (let index = 0; index <= 2_000; index++) goodbye(index);
    expect(events).toHaveLength(2_001);
    for (let index = 1; index <= 2_000; index++) goodbye(index);
    expect(events).toHaveLength(2_001);
    goodbye(0);
    expect(events.slice(2_001)).toEqual(["delete n0"]);
  });

  it("asks eight questions at once, the others wait", async () => {
    let running = 0;
    let most = 0;
    const asked: string[] = [];
    const gate = Promise.withResolvers<void>();
    const known = new Neighbourhood({
      settings: {} as never,
      refresh: async (name) => {
        most = Math.max(most, ++running);
        asked.push(name);
        await gate.promise;
        running--;
      },
      list: async () => [],
      spend: () => {},
    });
    const services = Array.from({ length: 30 }, (_, index) => `service${index}`);
    for (const service of services) opened.push(known.watch({ domain, service, emit: () => {} }));
    known.doubt();
    await waitFor(() => expect(asked).toHaveLength(8));
    gate.resolve();
    await waitFor(() => expect(asked).toEqual(services));
    expect(most).toBe(8);
  });

  it("holds nothing when the last watcher has left, and of what remains only what is watched", () => {
    const { known, close } = neighbourhood();
    const closeOther = known.watch({ domain, service: "other", emit: () => {} });
    known.hear(entryOf("a"), domain, "announced", from("1"));
    known.hear(entryOf("b", 120, {}, "other"), domain, "announced", from("1"));
    const both = known.bytes;
    close();
    expect(known.bytes).toBeLessThan(both);
    expect(known.bytes).toBeGreaterThan(0);
    closeOther();
    expect(known.bytes).toBe(0);
  });

  it("does not take an answer that was under way for a return, but does an announcement", () => {
    const { known, events } = neighbourhood();
    known.hear(entryOf("a"), domain, "announced", from("1"));
    known.hear(entryOf("a", 0), domain, "announced", from("1"));
    known.hear(entryOf("a"), domain, "answered", from("1", true));
    expect(events).toEqual(["create a", "delete a"]);
    known.hear(entryOf("a"), domain, "announced", from("1"));
    expect(events).toEqual(["create a", "delete a", "create a"]);
  });

  it("costs what it is said to cost, or less", () => {
    for (const json of [
      manyEndpoints(500),
      `{"Service":"s","Metadata":{${mapOf(300)}}}`,
      `{"Service":"s","Metadata":{"a":"${pad(9_000)}"}}`,
    ]) {
      collectNow();
      const before = process.memoryUsage().heapUsed;
      const read = Array.from({ length: 100 }, () => decodeTxt(strings(json)));
      collectNow();
      const real = process.memoryUsage().heapUsed - before;
      const said = read.reduce(
        (sum, { service, version, endpoints: list, metadata }) =>
          sum +
          heldBytes({
            name: service,
            version,
            metadata: {},
            endpoints: list,
            nodes: [{ id: "", address: "", metadata }],
          }),
        0,
      );
      expect(real).toBeLessThan(said * 1.2 + mebibyte);
    }
  });
});
