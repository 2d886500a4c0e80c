import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { Metadata } from "../../src/metadata.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { waitFor } from "../support/service.ts";

function request(endpoint: string, index: number, size: number) {
  return {
    service: "test",
    endpoint,
    contentType: "x",
    metadata: new Metadata({ "X-Same": "1", "X-Trace": String(index) }),
    body: new Uint8Array(size),
  };
}

/** What an hour at 500 exchanges a second comes to, run as fast as it goes. */
const roundExchanges = 100_000;
const rounds = 18;
/** A machine that is too slow for all of it does what it can in this time, and at least so many rounds. */
const limitMs = 90_000;
const leastRounds = 5;

/** All that a busy hour has in it: memory must not grow from round to round. */
it("an hour of calls, streams, cancellations and deadlines leaves nothing behind", { timeout: 240_000 }, async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const wire = "micro/1";
  const transport = httpTransport();
  const client = httpTransport({ direct: false });
  let running = 0;
  const listener = await transport.listen(
    (exchange) => {
      if (exchange.endpoint === "T.Call") return exchange.reply({ contentType: "x", body: exchange.body });
      const stream = exchange.stream();
      running++;
      void (async () => {
        for (let body = await stream.receive(); body !== undefined; body = await stream.receive())
          await stream.send({ contentType: "x", body });
      })()
        .catch(() => {})
        .finally(() => {
          stream.end();
          running--;
        });
    },
    { address: "127.0.0.1:0" },
  );
  const { address } = listener;
  const one = async (index: number): Promise<void> => {
    const kind = index % 50;
    if (kind === 0) {
      const stream = await client.open(address, request("T.Stream", index, 0), { wire });
      for (let sent = 0; sent < 5; sent++) {
        await stream.send(new Uint8Array(100));
        await stream.receive();
      }
      stream.closeSend();
      expect(await stream.receive()).toBe(undefined);
    } else if (kind === 1) (await client.open(address, request("T.Stream", index, 0), { wire })).cancel();
    else if (kind === 2) {
      const controller = new AbortController();
      const call = client.call(address, request("T.Call", index, 10), { wire, signal: controller.signal });
      controller.abort();
      await call.catch(() => {});
    } else if (kind === 3) await client.call(address, request("T.Call", index, 100_000), { wire });
    else await client.call(address, request("T.Call", index, 100), { wire, deadline: performance.now() + 20_000 });
  };
  /** The least of several looks: what was collected is given back beside the program, at a time of its own. */
  const memory = async (): Promise<{ heap: number; buffers: number }> => {
    const least = { heap: Infinity, buffers: Infinity };
    for (let look = 0; look < 20; look++) {
      collect();
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      least.heap = Math.min(least.heap, heapUsed);
      least.buffers = Math.min(least.buffers, arrayBuffers);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return least;
  };
  let first: { heap: number; buffers: number } | undefined;
  const until = performance.now() + limitMs;
  for (let round = 0; round < rounds && (round < leastRounds || performance.now() < until); round++) {
    let next = 0;
    await Promise.all(
      Array.from({ length: 64 }, async () => {
        while (next < roundExchanges) await one(next++);
      }),
    );
    // Resets and ends of the last exchanges are on their way.
    await waitFor(() => running === 0, "the end of all handlers");
    // The first rounds compile code and fill pools.
    if (round === 1) first = await memory();
  }
  const last = await memory();
  expect(last.heap - first!.heap).toBeLessThan(2_000_000);
  expect(last.buffers - first!.buffers).toBeLessThan(4_000_000);
  await client[Symbol.asyncDispose]();
  await listener[Symbol.asyncDispose]();
  await transport[Symbol.asyncDispose]();
});
