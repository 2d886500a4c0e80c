/** Publishers whose own process was busy: time that passed here is no subscriber's fault. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Broker } from "@micro/core";
import { broadcast, HttpBrokerPlace } from "../support/http-broker-place.ts";
import { selfSigned } from "../../src/net/self-signed.ts";

const topic = "orders";
const busyMs = 500;
/** How long a connection may take. */
const dialMs = 3_000;

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

/** Keep the event loop from turning. */
function block(durationMs: number): void {
  for (const end = performance.now() + durationMs; performance.now() < end;);
}

/** So that what was published is on its way. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
}

/** Runs beside this thread, as another process would: counts requests, and answers them while it is told to. */
const program = `
  const { parentPort, workerData } = require("node:worker_threads");
  const { shared, tls } = workerData;
  const state = new Int32Array(shared);
  const { createServer } = require(tls === undefined ? "node:http" : "node:https");
  createServer(tls ?? {}, (incoming, reply) => {
    incoming.resume().on("end", () => {
      Atomics.add(state, 0, 1);
      reply.setHeader("Micro-Broker", "http");
      const answer = () => Atomics.load(state, 1) === 0 ? reply.end() : setTimeout(answer, 5);
      answer();
    });
  }).listen(0, "127.0.0.1", function () { parentPort.postMessage(this.address().port); });
`;

interface Subscriber {
  readonly received: () => number;
  readonly answers: (does: boolean) => void;
}

class Scene extends HttpBrokerPlace {
  readonly publisher: Broker = this.broker({ insecureSkipVerify: true });

  /** @param kind `ours` takes requests without having answered those before. */
  async subscriber(kind: "ours" | "Go's", queue: string, tls?: { cert: string; key: string }): Promise<Subscriber> {
    const shared = new SharedArrayBuffer(8);
    const state = new Int32Array(shared);
    const worker = new Worker(program, { eval: true, workerData: { shared, tls } });
    this.stack.defer(async () => void (await worker.terminate()));
    const [port] = (await once(worker, "message")) as [number];
    const metadata = { secure: String(tls !== undefined), ...(kind === "ours" ? { wire: "pipelined" } : {}) };
    await this.register(topic, `127.0.0.1:${port}`, queue, metadata);
    return {
      received: () => Atomics.load(state, 0),
      answers: (does) => void Atomics.store(state, 1, does ? 0 : 1),
    };
  }
}

const body = new Uint8Array(1);

describe.each(["ours", "Go's"] as const)("a publisher that was busy past its limit, to subscribers of %s", (kind) => {
  it("takes the answer that has come meanwhile", async () => {
    await using scene = new Scene();
    await scene.subscriber(kind, broadcast);
    await scene.publisher.publish(topic, { body });
    const published = scene.publisher.publish(topic, { body }, { timeoutMs: busyMs / 2 });
    await turns();
    block(busyMs);
    await published;
  });

  // The second is long enough for another member to be asked before the end.
  it.each([busyMs / 2, busyMs - 100])("blames nobody for an answer that has not: within %d ms", async (timeoutMs) => {
    await using scene = new Scene();
    const members = [await scene.subscriber(kind, "mailer"), await scene.subscriber(kind, "mailer")];
    while (members.some(({ received }) => received() === 0)) await scene.publisher.publish(topic, { body });
    for (const { answers } of members) answers(false);
    const before = members.map(({ received }) => received());
    const published = scene.publisher.publish(topic, { body }, { timeoutMs });
    const outcome = published.catch((error: unknown) => error);
    await turns();
    block(busyMs);
    expect(await outcome).toMatchObject({ code: "timeout", detail: expect.stringContaining("this process was busy") });
    const asked = members.findIndex(({ received }, index) => received() > before[index]!);
    const count = members[asked]!.received();
    for (const { answers } of members) answers(true);
    // Each is for either of them with the same chance, unless one is left alone.
    await Promise.all(Array.from({ length: 20 }, () => scene.publisher.publish(topic, { body })));
    expect(members[asked]!.received()).toBeGreaterThan(count);
  });

  it.each(["plain", "with TLS"])("blames nobody for a connection that was not made meanwhile: %s", async (how) => {
    await using scene = new Scene();
    const tls = how === "plain" ? undefined : selfSigned({ hosts: ["127.0.0.1"] });
    const members = [await scene.subscriber(kind, "mailer", tls), await scene.subscriber(kind, "mailer", tls)];
    // Who is published to is known: no turn goes by before the connection is asked for.
    await scene.publisher.connect();
    const published = scene.publisher.publish(topic, { body }, { timeoutMs: 20_000 });
    await Promise.resolve();
    block(dialMs * 1.2);
    await published;
    await Promise.all(Array.from({ length: 20 }, () => scene.publisher.publish(topic, { body })));
    expect(members.map(({ received }) => received()).every((count) => count > 0)).toBe(true);
    expect(members.reduce((sum, { received }) => sum + received(), 0)).toBe(21);
  });

  it("does not take connections for dead that it has not listened to", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const now = performance.now.bind(performance);
    let skipped = 0;
    vi.spyOn(performance, "now").mockImplementation(() => now() + skipped);
    await using scene = new Scene();
    const { received, answers } = await scene.subscriber(kind, broadcast);
    await scene.publisher.publish(topic, { body });
    answers(false);
    const published = scene.publisher.publish(topic, { body }, { timeoutMs: 300_000 });
    await vi.waitUntil(() => received() === 2);
    // As if nothing had been done for so long, and then all that is due.
    skipped = 130_000;
    vi.advanceTimersByTime(5_000);
    answers(true);
    await published;
    expect(received()).toBe(2);
  });
});
