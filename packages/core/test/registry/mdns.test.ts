import { spawn, spawnSync } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import os from "node:os";
import { createInterface } from "node:readline";
import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { multicastInterfaces } from "../../src/registry/mdns/interfaces.ts";
import { mdnsRegistry } from "../../src/registry/mdns/mdns-registry.ts";
import type { MdnsRegistryOptions } from "../../src/registry/mdns/options.ts";
import { decodeMessage, encodeMessage, flagsAnswer } from "../../src/registry/mdns/packet.ts";
import { advertiseNode, answerPacket, question } from "../../src/registry/mdns/records.ts";
import type { Registry, RegistryEvent, Service, Watcher } from "../../src/registry/registry.ts";
import { bytes, freeUdpPort, goldenQuery, greeter, RawSocket, RecordingLogger, waitFor } from "./mdns-support.ts";

const port = await freeUdpPort();
let domains = 0;

/** Options of one test: a domain of its own, so that late packets of another one mean nothing. */
function options(more: MdnsRegistryOptions = {}): MdnsRegistryOptions & { domain: string } {
  return { port, loopbackOnly: true, ...more, domain: more.domain ?? `d${++domains}` };
}

function nodesOf(services: readonly Service[]): string[] {
  return services.flatMap(({ nodes }) => nodes.map(({ id, address }) => `${id} ${address}`)).toSorted();
}

/** Keeps `action id` of every event. */
async function watch(watcher: Watcher): Promise<string[]> {
  const events: string[] = [];
  await watcher.ready;
  void (async () => {
    for await (const { action, service } of watcher as AsyncIterable<RegistryEvent>)
      events.push(`${action} ${service.version} ${nodesOf([service]).join()}`);
  })();
  return events;
}

/** The packets of a node that somebody else on the network has registered. */
function foreignNode(id: string, address: string, domain: string, ttlSeconds = 120) {
  const service = greeter(id, address);
  return advertiseNode(service, service.nodes[0]!, { domain, host: "elsewhere", ttlSeconds });
}

/** UDP sockets of this process. */
function openSockets(): number {
  return process.getActiveResourcesInfo().filter((name) => name === "UDPWrap").length;
}

/** A socket closes a moment after it says so. */
function noSockets(): Promise<void> {
  return waitFor(() => expect(openSockets()).toBe(0));
}

describe("mdns registry on Go's port 5353", () => {
  it("finds what another process registers, and sees it go", async () => {
    const domain = `test-${process.pid}`;
    const module = new URL("../../src/registry/mdns/mdns-registry.ts", import.meta.url).pathname;
    const program = `
      import { mdnsRegistry } from ${JSON.stringify(module)};
      const registry = mdnsRegistry({ loopbackOnly: true, domain: ${JSON.stringify(domain)} });
      await registry.register(${JSON.stringify(greeter("remote", "127.0.0.1:7001"))});
      console.log("registered");
      for await (const _ of process.stdin);
      await registry[Symbol.asyncDispose]();
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    try {
      await once(createInterface(child.stdout), "line");
      await using registry = mdnsRegistry({ loopbackOnly: true, domain });
      await registry.register(greeter("local", "127.0.0.1:7002"));
      await waitFor(async () =>
        expect(nodesOf(await registry.getService("greeter"))).toEqual([
          "local 127.0.0.1:7002",
          "remote 127.0.0.1:7001",
        ]),
      );
      await using watcher = registry.watch();
      const events = await watch(watcher);
      child.stdin.end();
      await waitFor(() => expect(events).toContain("delete latest remote 127.0.0.1:7001"));
      expect(nodesOf(await registry.getService("greeter"))).toEqual(["local 127.0.0.1:7002"]);
    } finally {
      child.kill();
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  });
});

// A network namespace with nothing but loopback and no multicast route: a container without a network.
const isolate = ["-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
const canIsolate = spawnSync("unshare", [...isolate, "true"]).status === 0;
// Two interfaces with a cable between them, with addresses of both families.
const addInterfaces =
  "ip link add d0 type veth peer name d1 && for i in 0 1; do ip addr add 10.9.$i.1/24 dev d$i && " +
  'ip -6 addr add fe80::$i:1/64 dev d$i nodad && ip link set d$i up || exit 1; done; exec "$@"';
const withInterfaces = ["-rn", "sh", "-c", `ip link set lo up && ${addInterfaces}`, "sh"];
const canAddInterfaces = spawnSync("unshare", [...withInterfaces, "true"]).status === 0;

describe("mdns registry without a network", () => {
  it("works over loopback alone", async ({ skip }) => {
    skip(!canIsolate, "`unshare` cannot make a network namespace here");
    const module = new URL("../../src/registry/mdns/mdns-registry.ts", import.meta.url).pathname;
    const program = `
      import { mdnsRegistry } from ${JSON.stringify(module)};
      const registry = mdnsRegistry();
      const other = mdnsRegistry();
      const watcher = other.watch();
      await watcher.ready;
      await registry.register(${JSON.stringify(greeter("a", "127.0.0.1:1"))});
      for await (const { action, service } of watcher) {
        console.log(action, service.nodes[0].id);
        break;
      }
      console.log((await other.getService("greeter"))[0]?.nodes[0]?.address);
      console.log((await other.listServices())[0]?.name);
      await Promise.all([registry, other].map((each) => each[Symbol.asyncDispose]()));
    `;
    const ended = spawnSync("unshare", [...isolate, process.execPath, "--input-type=module", "--eval", program], {
      encoding: "utf8",
      timeout: 15_000,
    });
    expect(ended.stderr).toBe("");
    expect(ended.stdout).toBe("create a\n127.0.0.1:1\ngreeter\n");
  });

  it.for([
    ["IPv6 alone", "{ ipv4: false }"],
    ["IPv4 alone", "{ ipv6: false }"],
    ["both", "{}"],
    ["one of them alone", `{ interfaces: ["d1"] }`],
  ])("works over several interfaces, with %s", ([, settings], { skip }) => {
    skip(!canAddInterfaces, "`unshare` and `ip` cannot make interfaces here");
    const module = new URL("../../src/registry/mdns/mdns-registry.ts", import.meta.url).pathname;
    const program = `
      import { mdnsRegistry } from ${JSON.stringify(module)};
      const registry = mdnsRegistry(${settings});
      const other = mdnsRegistry(${settings});
      const watcher = other.watch();
      await watcher.ready;
      await registry.register(${JSON.stringify(greeter("a", "[fd00::1]:1"))});
      for await (const { action, service } of watcher) {
        console.log(action, service.nodes[0].id);
        break;
      }
      // One node, however many ways its answers came.
      console.log((await other.getService("greeter")).map(({ nodes }) => nodes.map(({ address }) => address)).join());
      await Promise.all([registry, other].map((each) => each[Symbol.asyncDispose]()));
    `;
    const ended = spawnSync(
      "unshare",
      [...withInterfaces, process.execPath, "--input-type=module", "--eval", program],
      {
        encoding: "utf8",
        timeout: 15_000,
      },
    );
    expect([ended.stderr, ended.stdout]).toEqual(["", "create a\n[fd00::1]:1\n"]);
  });
});

describe("mdns registry on the wire", () => {
  it("answers by unicast to the asking port, one packet per node, the question repeated", async () => {
    const { domain, ...rest } = options({ domain: "micro" });
    await using registry = mdnsRegistry({ ...rest, domain, host: "box" });
    const nodes = [...greeter("greeter-1", "192.168.1.10:9090").nodes, ...greeter("greeter-2", "[fd00::1]:9091").nodes];
    await registry.register(greeter("", "", { nodes }));
    await using asker = await RawSocket.open();
    await asker.multicast(goldenQuery, port);
    await waitFor(() => expect(asker.received).toHaveLength(2));
    for (const packet of asker.received) {
      const message = decodeMessage(packet);
      expect(message).toMatchObject({ id: 0, flags: flagsAnswer });
      expect(message.questions).toEqual([question("greeter.micro.")]);
      expect(message.answers.map(({ type }) => type)).toEqual(["PTR", "SRV", expect.stringMatching(/^A/), "TXT"]);
    }
  });

  it("answers only what it is asked, byte by byte", async () => {
    await using registry = mdnsRegistry(options({ domain: "micro" }));
    await registry.register(greeter("greeter-1", "192.168.1.10:9090"));
    await using asker = await RawSocket.open();
    const ask = (name: string, flags = 0) =>
      asker.multicast(encodeMessage({ flags, questions: [question(name)] }, { compress: false }), port);
    await ask("Greeter.micro.");
    await ask("greeter.local.");
    await ask("greeter-1.greeter.micro.");
    await ask("greeter.micro.", 0x0800);
    await ask("greeter.micro.", 0x0001);
    await ask("_services.micro.");
    await waitFor(() => expect(asker.received).toHaveLength(1));
    expect(decodeMessage(asker.received[0]!).questions[0]?.name).toBe("_services.micro.");
  });

  it("probes three times, announces, and says goodbye with the whole record", async () => {
    await using listener = await RawSocket.open(port);
    const { domain, ...rest } = options({ ipv6: false });
    await using registry = mdnsRegistry({ ...rest, domain });
    await registry.register(greeter("a", "127.0.0.1:1"));
    const heard = () =>
      listener.received.map(decodeMessage).filter((message) => JSON.stringify(message).includes(domain));
    const probes = () => heard().filter(({ questions }) => questions.length === 1);
    const announcements = () => heard().filter(({ flags, answers }) => flags === 0x8000 && answers[0]?.ttl === 120);
    await waitFor(() => expect(announcements().length).toBeGreaterThanOrEqual(3));
    expect(probes()).toHaveLength(3);
    await registry.deregister(greeter("a", ""));
    await waitFor(() => {
      const goodbye = heard().at(-1)!;
      expect(goodbye.answers.map(({ type, ttl }) => [type, ttl])).toEqual([
        ["SRV", 0],
        ["A", 0],
        ["TXT", 0],
      ]);
      expect(goodbye.answers[2]).toMatchObject({ strings: [expect.stringMatching(/^789c/)] });
    });
    const count = heard().length;
    await mdnsRegistry({ ...rest, domain }).getService("nobody");
    expect(
      heard()
        .slice(count)
        .every(({ answers }) => answers.length === 0),
    ).toBe(true);
  });

  it("answers by multicast whoever asks from the group's port", async () => {
    await using registry = mdnsRegistry(options({ domain: "micro", ipv6: false }));
    await registry.register(greeter("greeter-1", "192.168.1.10:9090"));
    await using asker = await RawSocket.open(port);
    await using bystander = await RawSocket.open(port);
    await asker.multicast(goldenQuery, port);
    for (const socket of [asker, bystander])
      await waitFor(() =>
        expect(
          socket.received
            .map(decodeMessage)
            .some(({ flags, questions }) => flags === flagsAnswer && questions.length === 1),
        ).toBe(true),
      );
  });

  it("takes answers without a question, sent to the group, in parts or in any section", async () => {
    const { domain, ...rest } = options({ ipv6: false, timeoutMs: 400 });
    await using watching = mdnsRegistry({ ...rest, domain });
    // Somebody who watches hears the group.
    await using watcher = watching.watch();
    await watcher.ready;
    await using other = await RawSocket.open(port);
    const records = foreignNode("a", "10.0.0.1:80", domain).answer(question(`greeter.${domain}.`));
    const looking = watching.getService("greeter");
    await waitFor(() => expect(other.received.length).toBeGreaterThan(0));
    for (const record of records)
      await other.multicast(encodeMessage({ flags: 0x8400, additionals: [record] }, { compress: true }), port);
    expect(nodesOf(await looking)).toEqual(["a 10.0.0.1:80"]);
  });

  it("asks once more when nothing came, and again not", async () => {
    await using listener = await RawSocket.open(port);
    const { domain, ...rest } = options({ ipv6: false, timeoutMs: 200 });
    await using registry = mdnsRegistry({ ...rest, domain });
    await registry.getService("nobody");
    const asked = () =>
      listener.received.filter((packet) => decodeMessage(packet).questions[0]?.name === `nobody.${domain}.`);
    await waitFor(() => expect(asked()).toHaveLength(2));
  });

  it("ends a look-up early if told to", async () => {
    const { domain, ...rest } = options({ timeoutMs: 4_000, quietMs: 30 });
    await using other = mdnsRegistry({ ...rest, domain });
    await other.register(greeter("a", "127.0.0.1:1"));
    await using registry = mdnsRegistry({ ...rest, domain });
    const started = performance.now();
    expect(await registry.getService("greeter")).toHaveLength(1);
    expect(performance.now() - started).toBeLessThan(3_000);
  });
});

describe("mdns watch", () => {
  it("says each thing once, however often it is announced", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await using other = await RawSocket.open(port);
    const node = foreignNode("a", "10.0.0.1:80", domain);
    const moved = foreignNode("a", "10.0.0.2:80", domain);
    for (let copy = 0; copy < 6; copy++) await other.multicast(node.announcement, port);
    for (let copy = 0; copy < 6; copy++) await other.multicast(moved.announcement, port);
    for (let copy = 0; copy < 2; copy++) await other.multicast(moved.goodbye, port);
    await other.multicast(foreignNode("b", "10.0.0.3:80", domain).announcement, port);
    await waitFor(() => expect(events).toContain("create latest b 10.0.0.3:80"));
    expect(events).toEqual([
      "create latest a 10.0.0.1:80",
      "update latest a 10.0.0.2:80",
      "delete latest a 10.0.0.2:80",
      "create latest b 10.0.0.3:80",
    ]);
  });

  it("reports the goodbye of a node it has not seen before, once", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await using other = await RawSocket.open(port);
    for (let copy = 0; copy < 3; copy++) await other.multicast(foreignNode("a", "10.0.0.1:80", domain).goodbye, port);
    await other.multicast(foreignNode("b", "10.0.0.3:80", domain).announcement, port);
    await waitFor(() => expect(events).toContain("create latest b 10.0.0.3:80"));
    expect(events).toEqual(["delete latest a 10.0.0.1:80", "create latest b 10.0.0.3:80"]);
  });

  it("takes a PTR or SRV record with a TTL of 0 for a goodbye", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await using other = await RawSocket.open(port);
    const node = foreignNode("a", "10.0.0.1:80", domain);
    await other.multicast(node.announcement, port);
    const ptr = node.answer(question(`greeter.${domain}.`))[0]!;
    await other.multicast(encodeMessage({ flags: 0x8400, answers: [{ ...ptr, ttl: 0 }] }, { compress: false }), port);
    await waitFor(() => expect(events).toEqual(["create latest a 10.0.0.1:80", "delete latest a 10.0.0.1:80"]));
  });

  it("moves a node from one version to another", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await registry.register(greeter("a", "127.0.0.1:1", { version: "1" }));
    await waitFor(() => expect(events).toEqual(["create 1 a 127.0.0.1:1"]));
    await registry.register(greeter("a", "127.0.0.1:1", { version: "2" }));
    await waitFor(() => expect(events.slice(1)).toEqual(["delete 1 a 127.0.0.1:1", "create 2 a 127.0.0.1:1"]));
    expect((await registry.getService("greeter")).map(({ version }) => version)).toEqual(["2"]);
  });

  it("reports a node that dies without a goodbye when its time to live is over", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await using other = await RawSocket.open(port);
    const announced = performance.now();
    // Three seconds, so that a busy machine has time to ask.
    await other.multicast(foreignNode("a", "10.0.0.1:80", domain, 3).announcement, port);
    await waitFor(() => expect(events).toEqual(["create latest a 10.0.0.1:80", "delete latest a 10.0.0.1:80"]));
    expect(performance.now() - announced).toBeGreaterThan(2_900);
    // It was asked for before it was given up.
    const name = `greeter.${domain}.`;
    await waitFor(() =>
      expect(other.received.map((packet) => decodeMessage(packet).questions[0]?.name)).toContain(name),
    );
  });

  it("keeps a node that answers when it is asked for, beyond its time to live", async () => {
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await using other = await RawSocket.open(port);
    // Three seconds, so that a busy machine has time to ask.
    const node = foreignNode("a", "10.0.0.1:80", domain, 3);
    let answers = 0;
    other.onPacket = (packet, remotePort) => {
      const answer = answerPacket(node, decodeMessage(packet));
      if (answer === undefined || remotePort === port) return;
      answers++;
      void other.send(answer, remotePort);
    };
    const announced = performance.now();
    await other.multicast(node.announcement, port);
    await waitFor(() => {
      expect(performance.now() - announced).toBeGreaterThan(6_500);
      expect(answers).toBeGreaterThan(1);
    }, 20_000);
    expect(events).toEqual(["create latest a 10.0.0.1:80"]);
    other.onPacket = undefined;
    await waitFor(() => expect(events.slice(1)).toEqual(["delete latest a 10.0.0.1:80"]), 20_000);
  });

  it("learns of nodes from look-ups, should an announcement be lost", async () => {
    const { domain, ...rest } = options();
    await using other = mdnsRegistry({ ...rest, domain });
    await other.register(greeter("a", "127.0.0.1:1"));
    await using registry = mdnsRegistry({ ...rest, domain });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await registry.getService("greeter");
    expect(events).toEqual(["create latest a 127.0.0.1:1"]);
  });
});

describe("mdns and bad packets", () => {
  it("ignores them, says so at debug level, and works on", async () => {
    const logger = new RecordingLogger();
    const { domain, ...rest } = options();
    await using registry = mdnsRegistry({ ...rest, domain, logger });
    await using watcher = registry.watch();
    const events = await watch(watcher);
    await registry.register(greeter("a", "127.0.0.1:1"));
    await using other = await RawSocket.open(port);
    const node = foreignNode("b", "10.0.0.1:80", domain);
    const [, srv, address, text] = node.answer(question(`greeter.${domain}.`));
    const withTxt = (strings: readonly string[]): Buffer =>
      encodeMessage(
        { flags: 0x8400, answers: [srv!, address!, { ...text!, type: "TXT", strings } as never] },
        { compress: true },
      );
    const packets = [
      bytes("00"),
      bytes("00 00 84 00 00 01 00 00 00 00 00 00 c0 0c 00 0c 00 01"),
      bytes("00 00 84 00 ff ff ff ff ff ff ff ff"),
      Buffer.alloc(9_000, 0xc0),
      withTxt(["789"]),
      withTxt(["zz"]),
      withTxt([]),
      withTxt(["789c"]),
    ];
    for (const packet of packets) await other.multicast(packet, port);
    await other.multicast(foreignNode("c", "10.0.0.2:80", domain).announcement, port);
    await waitFor(() => expect(events).toContain("create latest c 10.0.0.2:80"));
    expect(events.filter((event) => event.includes(" b "))).toEqual([]);
    expect(
      logger.records.filter(({ message }) => message === "mdns: a packet was ignored").length,
    ).toBeGreaterThanOrEqual(packets.length);
    expect(logger.records.filter(({ level }) => level !== "debug")).toEqual([]);
    expect(nodesOf(await registry.getService("greeter"))).toContain("a 127.0.0.1:1");
  });
});

describe("mdns sockets", () => {
  it("are none before the first use, and none after the last", async () => {
    await noSockets();
    const registry = mdnsRegistry(options());
    expect(openSockets()).toBe(0);
    await registry.getService("nobody");
    await noSockets();
    await registry.register(greeter("a", "127.0.0.1:1"));
    expect(openSockets()).toBeGreaterThan(0);
    await registry.deregister(greeter("a", ""));
    await noSockets();
    const watcher = registry.watch();
    await watcher.ready;
    await registry.register(greeter("a", "127.0.0.1:1"));
    const looking = registry.getService("greeter").catch((error: unknown) => error);
    await registry[Symbol.asyncDispose]();
    expect(await looking).toMatchObject({ code: "closed" });
    await noSockets();
  });

  it("are released by watches that end while they open", async () => {
    await noSockets();
    await using registry = mdnsRegistry(options());
    for (let round = 0; round < 5; round++) {
      const controller = new AbortController();
      const watcher = registry.watch({ signal: controller.signal });
      controller.abort();
      await watcher.ready.catch(() => {});
      for await (const _ of watcher) throw new Error("an event");
    }
    await noSockets();
  });

  it("work beside programs that hold the port with SO_REUSEADDR or SO_REUSEPORT", async () => {
    for (const sharing of [{ reuseAddr: true }, { reusePort: true }, { reuseAddr: true, reusePort: true }]) {
      const shared = await freeUdpPort();
      const daemon = dgram.createSocket({ type: "udp4", ...sharing });
      await new Promise<void>((resolve) => daemon.bind(shared, resolve));
      try {
        const rest = options({ port: shared });
        await using registry = mdnsRegistry(rest);
        await using other = mdnsRegistry(rest);
        await registry.register(greeter("a", "127.0.0.1:1"));
        expect(nodesOf(await other.getService("greeter")), JSON.stringify(sharing)).toEqual(["a 127.0.0.1:1"]);
      } finally {
        daemon.close();
      }
    }
  });

  it("fail clearly when the port is held for one program alone, and recover when it is free", async () => {
    const held = await freeUdpPort();
    await noSockets();
    const holder = dgram.createSocket("udp4");
    await new Promise<void>((resolve) => holder.bind(held, resolve));
    await using registry = mdnsRegistry(options({ port: held }));
    try {
      const refused = { code: "unavailable", message: expect.stringContaining(String(held)) };
      await expect(registry.register(greeter("a", "127.0.0.1:1"))).rejects.toMatchObject(refused);
      const watcher = registry.watch();
      await expect(watcher.ready).rejects.toMatchObject(refused);
      await expect(watcher[Symbol.asyncIterator]().next()).rejects.toMatchObject(refused);
      // Asking needs no port of its own.
      expect(await registry.getService("greeter")).toEqual([]);
      await waitFor(() => expect(openSockets()).toBe(1));
    } finally {
      await new Promise<void>((resolve) => holder.close(resolve));
    }
    await registry.register(greeter("a", "127.0.0.1:1"));
    expect(await registry.getService("greeter")).toHaveLength(1);
  });

  it("that break are opened again, watchers being told that they may have missed something", async () => {
    const { domain, ...rest } = options({ ipv6: false });
    const opened: dgram.Socket[] = [];
    const createSocket = dgram.createSocket;
    dgram.createSocket = ((...args: Parameters<typeof createSocket>) => {
      const socket = createSocket(...args);
      opened.push(socket);
      return socket;
    }) as typeof createSocket;
    try {
      await using registry = mdnsRegistry({ ...rest, domain });
      await registry.register(greeter("a", "127.0.0.1:1"));
      const watcher = registry.watch();
      await watcher.ready;
      const iterator = watcher[Symbol.asyncIterator]();
      const failed = (async () => {
        for (;;) if ((await iterator.next()).done === true) return undefined;
      })().catch((error: unknown) => error);
      // What the system reports on a socket whose interface vanished, for one.
      opened[0]!.emit("error", new Error("read ENETDOWN"));
      const error = await failed;
      expect(MicroError.is(error) && error.code).toBe("unavailable");
      await using other = mdnsRegistry({ ...rest, domain });
      await waitFor(async () => expect(nodesOf(await other.getService("greeter"))).toEqual(["a 127.0.0.1:1"]));
    } finally {
      dgram.createSocket = createSocket;
    }
  });

  it("do not keep a process alive for a watch in the background", async () => {
    const module = new URL("../../src/registry/mdns/mdns-registry.ts", import.meta.url).pathname;
    const program = `
      import { mdnsRegistry } from ${JSON.stringify(module)};
      const registry = mdnsRegistry(${JSON.stringify(options())});
      await registry.watch({ background: true }).ready;
      await registry.getService("nobody");
    `;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", program], { stdio: "inherit" });
    try {
      const [code] = (await once(child, "exit", { signal: AbortSignal.timeout(10_000) })) as [number];
      expect(code).toBe(0);
    } finally {
      child.kill("SIGKILL");
    }
  });
});

const info = (family: "IPv4" | "IPv6", address: string, internal: boolean, scopeid = 0) =>
  ({ family, address, internal, scopeid, netmask: "", mac: "", cidr: null }) as os.NetworkInterfaceInfo;

describe("mdns interfaces", () => {
  it("are all that are up, loopback included, or those that were named", () => {
    const all = {
      lo: [info("IPv4", "127.0.0.1", true), info("IPv6", "::1", true)],
      eth0: [info("IPv4", "10.0.0.1", false), info("IPv6", "fd00::1", false), info("IPv6", "fe80::1", false, 2)],
      wlan0: [info("IPv6", "fe80::2", false, 3)],
    };
    const names = (interfaces: readonly string[] | undefined, loopbackOnly: boolean, family: "IPv4" | "IPv6") =>
      multicastInterfaces({ interfaces, loopbackOnly }, family, all).map(({ name, address }) => `${name} ${address}`);
    expect(names(undefined, false, "IPv4")).toEqual(["lo 127.0.0.1", "eth0 10.0.0.1"]);
    expect(names(undefined, false, "IPv6")).toEqual(["lo ::1", "eth0 fe80::1", "wlan0 fe80::2"]);
    expect(names(undefined, true, "IPv4")).toEqual(["lo 127.0.0.1"]);
    expect(names(["wlan0", "10.0.0.1"], false, "IPv4")).toEqual(["eth0 10.0.0.1"]);
    expect(names(["wlan0"], false, "IPv6")).toEqual(["wlan0 fe80::2"]);
  });

  it("that do not exist make a look-up fail clearly", async () => {
    await using registry: Registry = mdnsRegistry({ port, interfaces: ["nowhere0"] });
    await expect(registry.getService("greeter")).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("nowhere0"),
    });
  });
});

describe("mdns options and limits", () => {
  it("are checked when the registry is made", () => {
    for (const bad of [
      { port: 0 },
      { port: 65_536 },
      { timeoutMs: 0 },
      { quietMs: -1 },
      { ttlSeconds: 0.5 },
      { ipv4: false, ipv6: false },
      { interfaces: [] },
      { domain: "a b" },
      { domain: "" },
      { host: "a b" },
    ])
      expect(() => mdnsRegistry(bad), JSON.stringify(bad)).toThrow(TypeError);
  });

  it("refuse what could never be found, and keep nothing of it", async () => {
    await using registry = mdnsRegistry(options());
    const nodes = [...greeter("good", "127.0.0.1:1").nodes, ...greeter("bad", "localhost:1").nodes];
    await expect(registry.register(greeter("", "", { nodes }))).rejects.toMatchObject({ code: "bad_request" });
    expect(await registry.getService("greeter")).toEqual([]);
    expect(await registry.getService("no such name")).toEqual([]);
  });

  it("keep domains apart, and refuse to ask for all", async () => {
    await using registry = mdnsRegistry(options());
    const domain = `d${++domains}`;
    await registry.register(greeter("a", "127.0.0.1:1"), { domain });
    expect(await registry.getService("greeter")).toEqual([]);
    expect(nodesOf(await registry.getService("greeter", { domain }))).toEqual(["a 127.0.0.1:1"]);
    expect((await registry.listServices({ domain })).map(({ name }) => name)).toEqual(["greeter"]);
    await registry.deregister(greeter("a", ""), { domain });
    expect(await registry.getService("greeter", { domain })).toEqual([]);
    await expect(registry.getService("greeter", { domain: "*" })).rejects.toMatchObject({ code: "not_implemented" });
  });

  it("end a look-up at the caller's limit: with what was found, or as a timeout", async () => {
    const rest = options({ timeoutMs: 10_000 });
    await using registry = mdnsRegistry(rest);
    await using other = mdnsRegistry(rest);
    await other.register(greeter("a", "127.0.0.1:1"));
    expect(await registry.getService("greeter", { timeoutMs: 500 })).toHaveLength(1);
    await expect(registry.getService("nobody", { timeoutMs: 50 })).rejects.toMatchObject({ code: "timeout" });
    const signal = AbortSignal.timeout(50);
    await expect(registry.getService("nobody", { signal })).rejects.toMatchObject({ code: "aborted" });
  });
});
