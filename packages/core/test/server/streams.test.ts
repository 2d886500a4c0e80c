import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { Context } from "../../src/context.ts";
import { MicroError, badRequest } from "../../src/errors.ts";
import { bidiHandler, clientStreamHandler, serverStreamHandler } from "../../src/server/kinds.ts";
import type { Peer } from "./support/loop-transport.ts";
import { errorOf, json, served, waitFor } from "./support/served.ts";

async function readAll(peer: Peer): Promise<unknown[]> {
  const messages: unknown[] = [];
  for (;;) {
    const message = await peer.read();
    if (message === undefined) return messages;
    messages.push(json(message));
  }
}

const sum = clientStreamHandler(async (numbers: AsyncIterable<{ n: number }>) => {
  let total = 0;
  for await (const { n } of numbers) total += n;
  return { total };
});

const echo = bidiHandler(async function* (messages) {
  for await (const message of messages) yield message;
});

describe("server streams", () => {
  it("give the handler the first message, not the opening one, and send what it yields", async () => {
    await using host = await served((server) =>
      server.handle("Greeter", {
        async *count({ to }: { to: number }) {
          for (let i = 1; i <= to; i++) yield { i };
        },
        *sync({ to }: { to: number }) {
          for (let i = 1; i <= to; i++) yield { i };
        },
        list: serverStreamHandler(({ to }: { to: number }) => Array.from({ length: to }, (_, i) => ({ i: i + 1 }))),
        later: serverStreamHandler(async () => [Promise.resolve({ i: 1 }), { i: 2 }, { i: 3 }]),
      }),
    );
    for (const endpoint of ["Greeter.Count", "Greeter.Sync", "Greeter.List", "Greeter.Later"]) {
      const peer = host.exchange(endpoint, { to: 99 });
      peer.push('{"to":3}');
      expect(await readAll(peer)).toEqual([{ i: 1 }, { i: 2 }, { i: 3 }]);
      expect(peer.ended).toEqual({ error: undefined });
      expect(peer.replies).toBe(0);
    }
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(host.server.stats).toEqual({ requests: 4, errors: 0, inFlight: 0 });
  });

  it("are pulled no faster than the caller reads", async () => {
    let pulled = 0;
    await using host = await served((server) =>
      server.handle("Greeter.Count", function* () {
        for (;;) yield { i: pulled++ };
      }),
    );
    const peer = host.exchange("Greeter.Count", undefined, { window: 4 });
    peer.push("{}");
    await waitFor(() => peer.unread.length === 4);
    for (let i = 0; i < 10; i++) await turn();
    expect(pulled).toBe(4);
    await peer.read();
    await waitFor(() => pulled === 5);
    peer.leave();
    await waitFor(() => host.server.stats.inFlight === 0);
  });

  it("close the handler's iterator and abort its signal when the caller goes away", async () => {
    const seen: string[] = [];
    await using host = await served((server) =>
      server.handle("Greeter.Count", async function* (_: unknown, { signal }: Context) {
        signal.addEventListener("abort", () => seen.push((signal.reason as MicroError).code));
        try {
          for (;;) {
            yield {};
            await turn();
          }
        } finally {
          seen.push("closed");
        }
      }),
    );
    const peer = host.exchange("Greeter.Count");
    peer.push("{}");
    await peer.read();
    peer.leave();
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(seen).toEqual(["aborted", "closed"]);
    expect(host.server.stats.errors).toBe(0);
  });

  it("close the iterator of a handler that is waiting when the caller goes away", async () => {
    let closed = 0;
    await using host = await served((server) =>
      server.handle(
        "Greeter.Wait",
        serverStreamHandler(() => {
          const { promise, resolve } = Promise.withResolvers<IteratorResult<unknown>>();
          return {
            [Symbol.asyncIterator]: () => ({
              next: () => promise,
              async return() {
                closed++;
                resolve({ done: true, value: undefined });
                return { done: true, value: undefined };
              },
            }),
          };
        }),
      ),
    );
    const peer = host.exchange("Greeter.Wait");
    peer.push("{}");
    await turn();
    peer.leave();
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(closed).toBe(1);
  });

  it("end with the handler's error, after what was sent before", async () => {
    await using host = await served((server) =>
      server.handle("Greeter", {
        async *coded() {
          yield { i: 1 };
          throw badRequest("here", "enough");
        },
        *plain() {
          yield { i: 1 };
          throw new Error("boom");
        },
        rejected: serverStreamHandler(async () => {
          throw new Error("no iterable");
        }),
        wrong: serverStreamHandler((() => 7) as never),
        unencodable: serverStreamHandler(() => [{ i: 1 }, () => {}]),
      }),
    );
    const errors: Record<string, unknown> = {
      Coded: { id: "here", code: 400, detail: "enough" },
      Plain: { id: "greeter", code: 500, detail: "boom" },
      Rejected: { id: "greeter", code: 500, detail: "no iterable" },
      Wrong: { id: "greeter", code: 500 },
      Unencodable: { id: "greeter", code: 500 },
    };
    for (const [method, error] of Object.entries(errors)) {
      const peer = host.exchange(`Greeter.${method}`);
      peer.push("{}");
      await readAll(peer);
      expect(errorOf(peer.ended?.error)).toMatchObject(error as object);
    }
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(host.server.stats.errors).toBe(5);
  });

  it("end with 400 when the request never comes, or cannot be read", async () => {
    let ran = 0;
    await using host = await served((server) =>
      server.handle("Greeter.Count", function* () {
        ran++;
        yield {};
      }),
    );
    const silent = host.exchange("Greeter.Count");
    silent.closeSend();
    const garbled = host.exchange("Greeter.Count");
    garbled.push("{");
    for (const peer of [silent, garbled]) {
      expect(await peer.read()).toBeUndefined();
      expect(errorOf(peer.ended?.error)).toMatchObject({ code: 400, id: "greeter" });
    }
    expect(ran).toBe(0);
  });

  it("end with 408 when the deadline passes, even while the caller does not read", async () => {
    let closed = false;
    await using host = await served((server) =>
      server.handle("Greeter.Count", function* () {
        try {
          for (;;) yield {};
        } finally {
          closed = true;
        }
      }),
    );
    const peer = host.exchange("Greeter.Count", undefined, { timeoutMs: 20 });
    peer.push("{}");
    await waitFor(() => peer.ended !== undefined);
    expect(errorOf(peer.ended?.error)).toMatchObject({ code: 408 });
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(closed).toBe(true);
    expect(host.server.stats.errors).toBe(1);
  });
});

const validate = async (message: unknown): Promise<unknown> => {
  if (typeof (message as { n: unknown }).n !== "number") throw badRequest("", "n: expected a number");
  return message;
};

describe("client and bidirectional streams", () => {
  it("give the handler what the caller sends, until it half-closes", async () => {
    await using host = await served((server) => server.handle("Math", { sum, echo }));
    const adding = host.exchange("Math.Sum");
    for (const n of [1, 2, 3]) adding.push(JSON.stringify({ n }));
    adding.closeSend();
    expect(await readAll(adding)).toEqual([{ total: 6 }]);
    expect(adding.ended).toEqual({ error: undefined });

    const echoing = host.exchange("Math.Echo");
    for (let i = 0; i < 1000; i++) {
      echoing.push(JSON.stringify({ i }));
      expect(json(await echoing.read())).toEqual({ i });
    }
    echoing.closeSend();
    expect(await readAll(echoing)).toEqual([]);
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(host.server.stats.errors).toBe(0);
  });

  it("end while the caller still sends when the handler has heard enough", async () => {
    await using host = await served((server) =>
      server.handle("Math", {
        first: clientStreamHandler(async (messages) => {
          for await (const message of messages) return message;
          return undefined;
        }),
        firstEcho: bidiHandler(async function* (messages) {
          for await (const message of messages) {
            yield message;
            return;
          }
        }),
      }),
    );
    for (const endpoint of ["Math.First", "Math.FirstEcho"]) {
      const peer = host.exchange(endpoint);
      peer.push('{"i":1}');
      expect(await readAll(peer)).toEqual([{ i: 1 }]);
      expect(peer.ended).toEqual({ error: undefined });
    }
    await waitFor(() => host.server.stats.inFlight === 0);
  });

  it("let a handler ask ahead: messages come in order", async () => {
    await using host = await served((server) =>
      server.handle(
        "Math.Pair",
        clientStreamHandler(async (messages) => {
          const iterator = messages[Symbol.asyncIterator]();
          const all = await Promise.all([iterator.next(), iterator.next(), iterator.next()]);
          return all.map(({ value }) => value as unknown);
        }),
      ),
    );
    const peer = host.exchange("Math.Pair");
    peer.push("1");
    peer.push("2");
    peer.closeSend();
    expect(await readAll(peer)).toEqual([[1, 2, null]]);
  });

  it("fail the handler's loop when the caller goes away", async () => {
    const seen: unknown[] = [];
    await using host = await served((server) =>
      server.handle(
        "Math.Watch",
        bidiHandler(async function* (messages) {
          try {
            for await (const message of messages) yield message;
          } catch (error) {
            seen.push((error as MicroError).code);
            throw error;
          }
        }),
      ),
    );
    const peer = host.exchange("Math.Watch");
    await turn();
    peer.leave();
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(seen).toEqual(["aborted"]);
    expect(host.server.stats.errors).toBe(0);
  });

  it("end with 400 at a message that cannot be read, whatever the handler makes of it", async () => {
    await using host = await served((server) =>
      server.handle(
        "Math.Stubborn",
        bidiHandler(async function* (messages) {
          const iterator = messages[Symbol.asyncIterator]();
          for (let i = 0; i < 3; i++) {
            const message = await iterator.next().catch(() => ({ value: "caught" }));
            yield message.value as unknown;
          }
        }),
      ),
    );
    const peer = host.exchange("Math.Stubborn", undefined, { window: 10 });
    peer.push('"fine"');
    peer.push("{");
    expect(await readAll(peer)).toEqual(["fine"]);
    expect(errorOf(peer.ended?.error)).toMatchObject({ code: 400 });
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(host.server.stats.errors).toBe(1);
  });

  it("abort the signal of a handler that waits elsewhere when a message cannot be read", async () => {
    await using host = await served((server) =>
      server.handle(
        "Math.Waits",
        clientStreamHandler(async (messages, { signal }) => {
          void messages[Symbol.asyncIterator]().next();
          await new Promise((resolve) => {
            signal.addEventListener("abort", resolve);
          });
        }),
      ),
    );
    const peer = host.exchange("Math.Waits");
    peer.push("{");
    await waitFor(() => host.server.stats.inFlight === 0);
    expect(errorOf(peer.ended?.error)).toMatchObject({ code: 400 });
    expect(host.server.stats.errors).toBe(1);
  });

  it("check every message", async () => {
    await using host = await served((server) =>
      server.handle(
        {
          service: "math",
          type: "Math",
          contentType: "application/json",
          methods: {
            sum: { name: "Sum", kind: "client", request: { name: "Number", validate }, response: { name: "Total" } },
          },
        },
        { sum },
      ),
    );
    const peer = host.exchange("Math.Sum");
    peer.push('{"n":1}');
    peer.push('{"n":"1"}');
    expect(await readAll(peer)).toEqual([]);
    expect(errorOf(peer.ended?.error)).toEqual({
      id: "greeter",
      code: 400,
      detail: "n: expected a number",
      status: "Bad Request",
    });
  });
});
