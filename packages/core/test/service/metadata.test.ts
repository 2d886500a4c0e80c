import { describe, expect, it } from "vitest";
import { memoryBroker } from "../../src/broker/memory.ts";
import { silentLogger } from "../../src/logger/console-logger.ts";
import { memoryNetwork, memoryRegistry } from "../../src/registry/memory.ts";
import type { ServiceOptions } from "../../src/service/options.ts";
import { createService } from "../../src/service/service.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";
import { memoryTransport } from "../../src/transport/memory.ts";
import type { Transport } from "../../src/transport/transport.ts";

const wires: readonly [string, () => Transport][] = [
  ["HTTP/1.1", () => httpTransport({ wire: "http" })],
  ["the fast wire", () => httpTransport({ direct: false })],
  ["the same process", () => httpTransport()],
  ["the memory transport", () => memoryTransport()],
];

describe.each(wires)("metadata over %s", (_name, makeTransport) => {
  it("arrives as it was passed, or is refused where it is passed", async () => {
    await using transport = makeTransport();
    const settings = {
      address: "127.0.0.1:0",
      registry: memoryRegistry({ network: memoryNetwork() }),
      broker: memoryBroker(),
      transport,
      logger: silentLogger,
      spreadMs: 0,
      args: [],
      env: {},
    } satisfies ServiceOptions;
    await using service = createService({ ...settings, name: "echo" });
    service.handle("Echo", {
      own: (_request: unknown, { metadata }: { metadata: Iterable<[string, string]> }) =>
        Object.fromEntries([...metadata].filter(([name]) => name.startsWith("X-"))),
      reply: (_request: unknown, context: { metadata: { set(name: string, value: string): unknown } }) =>
        context.metadata.set("a b", "1"),
    });
    await service.start();
    const own = (metadata: Record<string, string>) => service.call("echo", "Echo.Own", {}, { metadata });
    expect(await own({ "x-a": " größe 😀\t1 ", "X-!#$%&'*+.^_`|~": "2", "x-empty": "" })).toEqual({
      "X-A": "größe 😀\t1",
      "X-!#$%&'*+.^_`|~": "2",
      "X-Empty": "",
    });
    for (const [name, value] of [
      ["x:b", "1"],
      ["x b", "1"],
      ["x-größe", "1"],
      ["x-a", "1\r\nX-B: 2"],
      ["x-a", "1\0"],
    ] as const) {
      await expect(own({ [name]: value })).rejects.toThrow(TypeError);
      await expect(async () => service.stream("echo", "Echo.Own", { metadata: { [name]: value } })).rejects.toThrow(
        TypeError,
      );
      await expect(service.publish("topic", {}, { metadata: { [name]: value } })).rejects.toThrow(TypeError);
    }
    await expect(service.call("echo", "Echo.Reply", {})).rejects.toThrow(/cannot be a name/);
  });
});
