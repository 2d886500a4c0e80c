import { describe, expect, it, vi } from "vitest";
import { memoryBroker } from "../../src/broker/memory.ts";
import type { Server } from "../../src/server/server.ts";
import { handleOneOfEachKind } from "../../../testing/src/one-of-each-kind.ts";
import type { PeerInit } from "./support/loop-transport.ts";
import { errorOf, json, served } from "./support/served.ts";

/** One endpoint of each kind; `runs` counts what ran. */
function counted(): { readonly runs: string[]; readonly register: (server: Server) => void } {
  const runs: string[] = [];
  return { runs, register: (server) => handleOneOfEachKind(server, runs) };
}

describe("an exchange that another service was looked up for", () => {
  const wrong = {
    id: "greeter",
    code: 503,
    detail: "this is greeter, not shop: the address belongs to another service by now",
    status: "Service Unavailable",
  };
  const shapes: readonly [what: string, endpoint: string, init: PeerInit][] = [
    ["a call", "Greeter.Hello", { opened: "call" }],
    ["a call of an endpoint that is not here", "Shop.Buy", { opened: "call" }],
    ["a stream", "Greeter.Count", { opened: "stream" }],
    ["a call in an envelope", "Greeter.Hello", { contentType: "application/json-rpc" }],
    ["a call in a type nobody reads", "Greeter.Hello", { contentType: "application/none" }],
    ["an event", "", { topic: "user.created" }],
    ["a look at its health", "Debug.Health", {}],
  ];
  for (const [what, endpoint, init] of shapes)
    it(`is refused as not run, and counts as nothing: ${what}`, async () => {
      await using broker = memoryBroker();
      const { runs, register } = counted();
      await using host = await served(
        (server) => {
          register(server);
          server.handle("Debug", { health: () => void runs.push("health") }, { internal: true });
          server.subscribe("user.created", () => void runs.push("event"));
        },
        { broker },
      );
      const answer = await host.call(endpoint, {}, { service: "shop", lookedUp: true, ...init });
      expect(errorOf(answer)).toEqual(wrong);
      expect(answer.notRun).toBe(true);
      expect(runs).toEqual([]);
      expect(host.server.stats).toEqual({ requests: 0, errors: 0, inFlight: 0 });
      expect(host.logger.records.filter(({ level }) => level !== "info" && level !== "debug")).toEqual([]);
    });

  it("is served where the caller was given the address, is Go's, or a proxy, and where the name is right", async () => {
    const { runs, register } = counted();
    await using host = await served(register);
    for (const init of [{ service: "shop" }, { service: "shop", lookedUp: false }, { lookedUp: true }, { service: "" }])
      expect(json(await host.call("Greeter.Hello", {}, init))).toEqual({});
    expect(runs).toHaveLength(4);
  });
});

describe("an endpoint of another kind than the exchange", () => {
  const mismatches: readonly [endpoint: string, opened: "call" | "stream", detail: string][] = [
    ["Greeter.Hello", "stream", "Greeter.Hello is a unary call, no stream: use service.call"],
    ["Greeter.Count", "call", "Greeter.Count is a server stream: use service.stream"],
    ["Greeter.Sum", "call", "Greeter.Sum is a client stream: use service.stream"],
    ["Greeter.Chat", "call", "Greeter.Chat is a bidirectional stream: use service.stream"],
  ];
  for (const [endpoint, opened, detail] of mismatches)
    it(`is told at once, and never run: ${detail}`, async () => {
      const { runs, register } = counted();
      await using host = await served(register);
      const answer = await host.call(endpoint, {}, { opened });
      expect(errorOf(answer)).toEqual({ id: "greeter", code: 400, detail, status: "Bad Request" });
      expect(runs).toEqual([]);
      expect(host.server.stats).toEqual({ requests: 1, errors: 1, inFlight: 0 });
    });

  it("is what Go's servers make of it where the wire does not say what the caller opened", async () => {
    const { runs, register } = counted();
    await using host = await served(register);
    expect(json(await host.call("Greeter.Hello", {}))).toEqual({});
    const counting = host.exchange("Greeter.Count", {});
    counting.push("{}");
    expect(json(await counting.read())).toEqual({});
    expect(runs).toEqual(["hello", "count"]);
  });
});

describe("a name that is not there", () => {
  it("is told with the one that was meant, internal ones left out", async () => {
    await using host = await served((server) => {
      counted().register(server);
      server.handle("Debug", { health: () => ({}) }, { internal: true });
    });
    const details: Record<string, string> = {
      "Greeter.hello": "rpc: can't find method hello; did you mean Greeter.Hello?",
      "greeter.Hello": "rpc: can't find service greeter; did you mean Greeter.Hello?",
      "greetr.helo": "rpc: can't find service greetr; did you mean Greeter.Hello?",
      "Greeter.Bye": "rpc: can't find method Bye",
      "Debug.Helth": "rpc: can't find method Helth",
      [`Greeter.${"Hello".repeat(1000)}`]: `rpc: can't find method ${"Hello".repeat(1000)}`.slice(0, 4096),
    };
    for (const [endpoint, detail] of Object.entries(details))
      expect((errorOf(await host.call(endpoint, {})) as { detail: string }).detail.slice(0, 4096)).toBe(detail);
  });

  it("is told so twenty times a second at most: comparing names costs more than a call", async () => {
    await using host = await served(counted().register);
    const hints = async (): Promise<number> => {
      const answers = await Promise.all(Array.from({ length: 50 }, () => host.call("Greeter.helo", {})));
      return answers.filter(({ error }) => error?.includes("did you mean") === true).length;
    };
    vi.useFakeTimers({ toFake: ["performance"] });
    try {
      expect([await hints(), await hints()]).toEqual([20, 0]);
      vi.advanceTimersByTime(999);
      expect(await hints()).toBe(0);
      vi.advanceTimersByTime(1);
      expect(await hints()).toBe(20);
    } finally {
      vi.useRealTimers();
    }
  });
});
