import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it } from "vitest";
import { Metadata } from "../../src/metadata.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";

function request(endpoint: string, index: number, size: number) {
  return {
    service: "test",
    endpoint,
    contentType: "x",
    metadata: new Metadata({ "X-Same": "1", "X-Trace": String(index) }),
    body: new Uint8Array(size),
  };
}

/** All that a busy day has in it, many times over: memory must not grow from round to round. */
it("calls, streams, cancellations and deadlines leave nothing behind", { timeout: 120_000 }, async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const wire = "micro/1";
  const transport = httpTransport();
  const client = httpTransport({ direct: false });
  const listener = await transport.listen(
    (exchange) => {
      if (exchange.endpoint === "T.Call") return exchange.reply({ contentType: "x", body: exchange.body });
      const stream = exchange.stream();
      void (async () => {
        for (let body = await stream.receive(); body !== undefined; body = await stream.receive())
          await stream.send({ contentType: "x", body });
        stream.end();
      })().catch(() => {});
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
  const heaps: number[] = [];
  for (let round = 0; round < 6; round++) {
    let next = 0;
    await Promise.all(
      Array.from({ length: 64 }, async () => {
        while (next < 20_000) await one(next++);
      }),
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    collect();
    heaps.push(process.memoryUsage().heapUsed);
  }
  expect(heaps.at(-1)! - heaps[1]!).toBeLessThan(2_000_000);
  await client[Symbol.asyncDispose]();
  await listener[Symbol.asyncDispose]();
  await transport[Symbol.asyncDispose]();
});
