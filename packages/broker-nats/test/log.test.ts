import { natsBroker } from "@micro/broker-nats";
import { consoleLogger } from "@micro/core";
import { describe, expect, it, onTestFinished } from "vitest";
import { startNats } from "../../../scripts/servers.mjs";
import { missing } from "./support/nats.ts";

describe.skipIf(missing !== undefined)("what is logged of a connection", () => {
  it("that it is lost, and made again, and is there again, in the form of every piece", async () => {
    const server = await startNats();
    onTestFinished(() => server.dispose());
    const lines: string[] = [];
    const write = (text: string): void => void lines.push(text.trim().replace(/^[\d: -]+/, ""));
    await using broker = natsBroker({ servers: [server.address], logger: consoleLogger({ source: false, write }) });
    await broker.connect();
    const subscriber = broker.subscribe("t", () => {});
    await subscriber.ready;
    await server.kill();
    await expect.poll(() => lines.length, { timeout: 10_000 }).toBeGreaterThan(0);
    expect(lines[0]).toMatch(/^level=warn Broker \[nats\] Connection lost, it is made again: the connection to \S+: /);
    await server.start();
    await expect
      .poll(() => lines.at(-1), { timeout: 20_000 })
      .toBe(`level=info Broker [nats] Connected to ${server.address}`);
  });
});
