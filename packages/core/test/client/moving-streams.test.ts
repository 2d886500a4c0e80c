import { describe, expect, it } from "vitest";
import { maxKeptBytes } from "../../src/client/movable-exchange.ts";
import { retryNever } from "../../src/client/retry.ts";
import type { MethodDefinition, MethodKind } from "../../src/definition.ts";
import type { HandlerRegistration } from "../../src/server/server.ts";
import { MicroError } from "../../src/errors.ts";
import type { Transport } from "../../src/transport/transport.ts";
import { bound, errorOf, Fleet, waitFor } from "./support/fleet.ts";

interface Message {
  n: number;
  padding?: string;
}

const method = <Kind extends MethodKind>(
  name: string,
  kind: Kind,
): MethodDefinition<Message, Message, Message, Message, Kind> => ({
  name,
  kind,
  request: { name: "Message" },
  response: { name: "Message" },
});
const Flow = {
  service: "flow",
  type: "Flow",
  contentType: "application/json",
  methods: { chat: method("Chat", "bidi"), up: method("Up", "client") },
};

/** Handlers that write down what reaches them. */
function flow(got: Message[]) {
  return (handlers: HandlerRegistration) =>
    handlers.handle(Flow, {
      async *chat(messages: AsyncIterable<Message>) {
        for await (const message of messages) {
          got.push(message);
          yield { n: message.n };
        }
      },
      async up(messages: AsyncIterable<Message>) {
        let n = 0;
        for await (const message of messages) {
          got.push(message);
          n += message.n;
        }
        return { n };
      },
    });
}

/** An instance that refuses, tried first, and one that does not. */
async function refusedFirst(transport: "memory" | "direct" | "fast" | "http") {
  const fleet = new Fleet({ transport, strategy: "roundRobin" });
  const refused: Message[] = [];
  const got: Message[] = [];
  const first = await fleet.serve("flow", flow(refused));
  first.server.refuse();
  const second = await fleet.serve("flow", flow(got));
  // A selector of its own knows nothing of the first yet, and asks for it in its turn.
  return { fleet, first, second, got, refused };
}

const numbers = (count: number): Message[] => Array.from({ length: count }, (_, n) => ({ n }));

describe("a stream that was not run", () => {
  for (const transport of ["memory", "direct", "fast", "http"] as const) {
    it(`goes to another node with what was sent, once and in order: ${transport}`, async () => {
      const { fleet, got, refused, first } = await refusedFirst(transport);
      await using _ = fleet;
      const client = fleet.connect({ retries: 0 });
      for (let round = 0; round < 4; round++) {
        got.length = 0;
        const stream = await client.stream<Message, Message>("flow", "Flow.Chat");
        for (const message of numbers(5)) await stream.send(message);
        stream.closeSend();
        const answers: Message[] = [];
        for await (const answer of stream) answers.push(answer);
        expect(answers).toEqual(numbers(5));
        expect(got).toEqual(numbers(5));
        got.length = 0;
        expect(await client.client(Flow).up(numbers(5))).toEqual({ n: 10 });
        expect(got).toEqual(numbers(5));
      }
      expect(refused).toEqual([]);
      const told = fleet.selector.told.filter(({ error }) => error !== undefined);
      expect(told.length).toBeGreaterThan(0);
      for (const { node, error } of told)
        expect([node, error?.code, error?.notRun]).toEqual([first.id, "unavailable", true]);
    });

    it(`takes along what is sent while it moves: ${transport}`, async () => {
      const { fleet, got } = await refusedFirst(transport);
      await using _ = fleet;
      const client = fleet.connect({ retries: 0 });
      for (let round = 0; round < 4; round++) {
        got.length = 0;
        await using stream = await client.stream<Message, Message>("flow", "Flow.Chat");
        const first = stream.receive();
        const sending = (async () => {
          for (const message of numbers(20)) {
            await stream.send(message);
            await new Promise((resolve) => setImmediate(resolve));
          }
          stream.closeSend();
        })();
        expect(await first).toEqual({ n: 0 });
        const answers: Message[] = [];
        for await (const answer of stream) answers.push(answer);
        await sending;
        expect(answers).toEqual(numbers(20).slice(1));
        expect(got).toEqual(numbers(20));
      }
    });
  }

  it("tells of every node when all refuse", async () => {
    const { fleet, second, first } = await refusedFirst("memory");
    await using _ = fleet;
    second.server.refuse();
    const stream = await fleet.connect({ retries: 0 }).stream("flow", "Flow.Chat");
    await stream.send({ n: 1 });
    const error = await errorOf(stream.receive());
    expect(error).toMatchObject({ code: "unavailable", notRun: true });
    expect(error.attempts.map(({ node }) => node).toSorted()).toEqual([first.id, second.id]);
    expect(error.detail).toContain("tried");
    await errorOf(stream.send({ n: 2 }));
  });

  it("stays where it is when the policy is never to repeat", async () => {
    const { fleet, got } = await refusedFirst("memory");
    await using _ = fleet;
    const outcomes: unknown[] = [];
    for (let round = 0; round < 2; round++) {
      const stream = await fleet.connect().stream("flow", "Flow.Chat", { retry: retryNever });
      await stream.send({ n: 1 });
      outcomes.push(await stream.receive().catch((error: { code: unknown }) => error.code));
      stream.cancel();
    }
    expect(outcomes).toContain("unavailable");
    expect(got.length).toBeLessThan(2);
  });

  it("stays where it is when more was sent than is kept", async () => {
    const { fleet, first } = await refusedFirst("memory");
    await using _ = fleet;
    const client = fleet.connect({ retries: 0 });
    const padding = "x".repeat(maxKeptBytes);
    const stream = await client.stream<Message, Message>("flow", "Flow.Chat", { select: onlyIf(first.id) });
    await stream.send({ n: 1, padding }).catch(() => {});
    expect(await errorOf(stream.receive())).toMatchObject({ code: "unavailable", notRun: true });
  });

  it("ends with its caller while it moves, and tells each node's selection once", async () => {
    const { fleet, first, second } = await refusedFirst("memory");
    await using _ = fleet;
    second.server.refuse();
    const controller = new AbortController();
    const client = fleet.connect({ retries: 5, backoff: () => 10_000 });
    const stream = await client.stream("flow", "Flow.Chat", { signal: controller.signal });
    await stream.send({ n: 1 });
    const error = errorOf(stream.receive());
    await waitFor(() => new Set(fleet.selector.told.map(({ node }) => node)).size === 2);
    const late = errorOf(stream.send({ n: 2 }));
    controller.abort();
    expect(await error).toMatchObject({ code: "aborted" });
    expect(await late).toMatchObject({ code: "aborted" });
    await waitFor(() => fleet.selector.told.length >= fleet.selector.picked);
    expect([first.id, second.id]).toContain(fleet.selector.told[0]?.node);
  });
});

describe("a stream that has been answered", () => {
  it("does not move any more, whatever its connection says", async () => {
    let opened = 0;
    // The one message is there, then the connection ends as if nothing had been sent.
    const breaking = (transport: Transport): Transport => ({
      ...bound(transport),
      async open(address, request, options) {
        opened++;
        const exchange = await transport.open(address, request, options);
        let received = 0;
        return {
          send: (body) => exchange.send(body),
          closeSend: () => exchange.closeSend(),
          cancel: (reason) => exchange.cancel(reason),
          receive: () =>
            received++ === 0
              ? exchange.receive()
              : Promise.reject(new MicroError("gone", { code: "unavailable", notRun: true })),
        };
      },
    });
    await using fleet = new Fleet({ faults: breaking });
    const got: Message[] = [];
    await fleet.serve("flow", flow(got));
    await fleet.serve("flow", flow(got));
    const stream = await fleet.connect().stream<Message, Message>("flow", "Flow.Chat");
    await stream.send({ n: 1 });
    expect(await stream.receive()).toEqual({ n: 1 });
    await stream.send({ n: 2 });
    expect(await errorOf(stream.receive())).toMatchObject({ code: "unavailable" });
    expect(opened).toBe(1);
    expect(got.filter(({ n }) => n === 1)).toHaveLength(1);
  });

  it("is given up on the node it was moving to when it is cancelled meanwhile", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let opened = 0;
    const slow = (transport: Transport): Transport => ({
      ...bound(transport),
      async open(address, request, options) {
        if (++opened > 1) await promise;
        return await transport.open(address, request, options);
      },
    });
    await using fleet = new Fleet({ faults: slow, strategy: "roundRobin" });
    const got: Message[] = [];
    const first = await fleet.serve("flow", flow([]));
    await fleet.serve("flow", flow(got));
    first.server.refuse();
    const client = fleet.connect({ retries: 0 });
    const stream = await client.stream<Message, Message>("flow", "Flow.Chat", { select: onlyIf(first.id) });
    await stream.send({ n: 1 });
    const error = errorOf(stream.receive());
    await waitFor(() => opened === 2);
    stream.cancel();
    resolve();
    expect(await error).toMatchObject({ code: "aborted" });
    await waitFor(() => fleet.selector.told.length === fleet.selector.picked);
    expect(got).toEqual([]);
  });
});

/** The refusing instance first; any other afterwards. */
function onlyIf(id: string) {
  return {
    strategy: (candidates: readonly { node: { id: string } }[]) =>
      (candidates.find(({ node }) => node.id === id) ?? candidates[0]!) as never,
  };
}
