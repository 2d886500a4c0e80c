// One of: a listener; an honest caller, who calls at a steady pace and tells how long it took; a hostile one of a kind, who drives a
// limit of docs/limits.md to its bound until it is killed. Used by limits-soak.slow.test.ts and bench/limits.mjs.
import { connect, type Socket } from "node:net";
import { heldBytes } from "../../../src/transport/fast/held-bytes.ts";
import { httpTransport } from "../../../src/transport/http/http-transport.ts";
import { defineRoute, frame, preface } from "../../support/fast-peer.ts";

const [role = "", address = "", kind = ""] = process.argv.slice(2);
const large = new Uint8Array(1024 * 1024);

async function listen(): Promise<void> {
  const listener = await httpTransport().listen(
    (exchange) => {
      const { endpoint } = exchange;
      if (endpoint === "T.Hello") exchange.reply({ contentType: "x", body: exchange.body });
      else if (endpoint === "T.Large") exchange.reply({ contentType: "x", body: large });
      else if (endpoint === "T.LargeLater")
        setTimeout(() => exchange.reply({ contentType: "x", body: large }), 20 + 200 * Math.random());
      else if (endpoint === "T.Busy") {
        const until = performance.now() + 0.2;
        while (performance.now() < until);
        exchange.reply({ contentType: "x", body: exchange.body });
      } else if (exchange.opened === "stream") exchange.stream();
      else exchange.cancellation.onCancel(() => exchange.reply({ body: new Uint8Array(0) }));
    },
    { address: "127.0.0.1:0" },
  );
  process.on("message", () => {
    const { rss, arrayBuffers } = process.memoryUsage();
    process.send?.({ rss, arrayBuffers, held: heldBytes() });
  });
  process.send?.(listener.address);
}

/** A call each two milliseconds, over either wire in turn. Told each time for how many seconds. */
async function callHonestly(): Promise<void> {
  const client = httpTransport({ direct: false });
  const body = Buffer.from("hello");
  const request = { service: "test", endpoint: "T.Hello", contentType: "x", metadata: undefined, body };
  const callFor = async (seconds: number): Promise<void> => {
    const times: number[] = [];
    const failures: string[] = [];
    const calls: Promise<void>[] = [];
    const until = performance.now() + seconds * 1_000;
    for (let index = 0; performance.now() < until; index++) {
      const from = performance.now();
      const options = { wire: index % 2 === 0 ? "micro/1" : undefined, deadline: from + 5_000 };
      calls.push(
        client.call(address, request, options).then(
          () => void times.push(performance.now() - from),
          (error: unknown) => void failures.push(String(error)),
        ),
      );
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await Promise.all(calls);
    times.sort((one, other) => one - other);
    const at = (share: number): number => times[Math.floor(times.length * share)] ?? Number.NaN;
    process.send?.({ calls: calls.length, failures, p50: at(0.5), p99: at(0.99), most: times.at(-1) });
  };
  process.on("message", (seconds: number) => void callFor(seconds));
  process.send?.("ready");
}

function id(index: number): number {
  return 2 * index + 1;
}

function open(index: number, flags = 0, payload: Uint8Array = large.subarray(0, 0)): Buffer {
  const timeout = (flags & 4) === 0 ? [] : [0, 0, 0x03, 0xe8];
  return frame(2, flags, id(index), Buffer.concat([Buffer.from([0, 1, ...timeout]), payload]));
}

const ping = frame(7, 0, 0, "12345678");
const piece = large.subarray(0, 30_000);

interface Load {
  readonly endpoint: string;
  readonly connections: number;
  /** How often more is sent, in milliseconds; 0: as fast as it is taken. */
  readonly everyMs: number;
  /** What is sent next, of exchanges from `index` on, and how many those are. */
  next(index: number): readonly [bytes: Buffer, exchanges: number];
}

function many(count: number, make: (index: number) => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, index) => make(index)));
}

const loads: Record<string, Load> = {
  "replies that nobody takes": {
    endpoint: "T.Large",
    connections: 4,
    everyMs: 200,
    next: (index) => [Buffer.concat([ping, many(200, (more) => open(index + more, 4))]), 200],
  },
  "replies that come together and nobody takes": {
    endpoint: "T.LargeLater",
    connections: 4,
    everyMs: 500,
    next: (index) => [Buffer.concat([ping, many(500, (more) => open(index + more, 4))]), 500],
  },
  "calls that are cancelled": {
    endpoint: "T.Wait",
    connections: 2,
    everyMs: 0,
    next: (index) => [
      many(500, (more) => Buffer.concat([open(index + more), frame(5, 0, id(index + more), [0, 1])])),
      500,
    ],
  },
  "cheap frames": {
    endpoint: "T.Hello",
    connections: 2,
    everyMs: 0,
    next: () => [many(1_000, (index) => (index % 2 === 0 ? ping : defineRoute(2))), 0],
  },
  "handlers that take their time": {
    endpoint: "T.Busy",
    connections: 1,
    everyMs: 500,
    next: (index) => [many(1_000, (more) => open(index + more, 4)), 1_000],
  },
  "parts of messages": {
    endpoint: "T.Hello",
    connections: 40,
    everyMs: 300,
    next: (index) => [
      many(10, (more) => Buffer.concat([open(index + more, 1, piece), frame(3, 1, id(index + more), piece)])),
      10,
    ],
  },
  "messages that nobody reads": {
    endpoint: "T.Stream",
    connections: 40,
    everyMs: 300,
    next: (index) => [
      many(10, (more) =>
        Buffer.concat([
          open(index + more, 2),
          frame(3, 0, id(index + more), piece),
          frame(3, 0, id(index + more), piece),
        ]),
      ),
      10,
    ],
  },
};

function attack(load: Load): void {
  const colon = address.lastIndexOf(":");
  const one = (): void => {
    const socket: Socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) });
    let index = 1;
    const more = (): void => {
      if (socket.destroyed) return;
      if (socket.writableLength < 200_000) {
        const [bytes, exchanges] = load.next(index);
        index += exchanges;
        socket.write(bytes);
      }
      if (load.everyMs > 0) setTimeout(more, load.everyMs);
      else if (socket.writableNeedDrain) socket.once("drain", more);
      else setImmediate(more);
    };
    socket.once("connect", () => {
      socket.write(Buffer.concat([preface, defineRoute(1, load.endpoint)]));
      // Not all at once: the listener's bounds are the subject, not what a burst takes to be read.
      setTimeout(more, load.everyMs * Math.random());
    });
    socket.on("error", () => {});
    socket.on("data", () => {});
    socket.on("close", () => setTimeout(one, 50));
  };
  for (let count = 0; count < load.connections; count++) one();
  process.send?.("ready");
}

if (role === "kinds") process.send?.(Object.keys(loads));
else if (role === "listener") await listen();
else if (role === "honest") await callHonestly();
else attack(loads[kind]!);
process.on("disconnect", () => process.exit());
