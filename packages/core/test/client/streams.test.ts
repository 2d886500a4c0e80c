import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Client, ClientOptions } from "../../src/client/client.ts";
import { Context, currentContext, runInContext } from "../../src/context.ts";
import type { MethodKind, ServiceDefinition } from "../../src/definition.ts";
import { badRequest, MicroError } from "../../src/errors.ts";
import type { HandlerRegistration } from "../../src/server/server.ts";
import { errorOf, Fleet, waitFor } from "./support/fleet.ts";

interface Message {
  n: number;
}

function method<Kind extends MethodKind>(name: string, kind: Kind) {
  const type = { name: "Message" } as { name: string; validate?: (message: unknown) => Message };
  return { name, kind, request: type, response: type };
}

const Flow = {
  service: "flow",
  type: "Flow",
  contentType: "application/json",
  methods: {
    down: method("Down", "server"),
    up: method("Up", "client"),
    chat: method("Chat", "bidi"),
  },
} as const satisfies ServiceDefinition;

const serveFlow = (handlers: HandlerRegistration) =>
  handlers.handle(Flow, {
    async *down({ n }) {
      for (let sent = 0; sent < n; sent += 1) yield { n: sent };
    },
    async up(requests) {
      let n = 0;
      for await (const request of requests) n += request.n;
      return { n };
    },
    async *chat(requests) {
      for await (const request of requests) yield request;
    },
  });

const numbers = async function* (count: number): AsyncGenerator<Message> {
  for (let n = 0; n < count; n += 1) yield { n };
};

/** Every attempt was reported, and no server runs anything. */
async function settled(fleet: Fleet, ...servers: { server: { stats: { inFlight: number } } }[]): Promise<void> {
  await waitFor(() => fleet.selector.told.length === fleet.selector.picked);
  await waitFor(() => servers.every(({ server }) => server.stats.inFlight === 0));
}

for (const transport of ["http", "memory"] as const) {
  describe(`streams over ${transport}`, () => {
    it("that are disposed while somebody reads do not look complete", async () => {
      await using fleet = new Fleet({ transport });
      await fleet.serve("flow", serveFlow);
      const stream = await fleet.connect().stream("flow", "Flow.Chat");
      const reading = errorOf(stream.receive());
      await stream[Symbol.asyncDispose]();
      expect(await reading).toMatchObject({ code: "aborted", detail: "the stream was disposed" });
      expect(
        await stream.receive().then(
          () => "ended",
          (error: MicroError) => error.code,
        ),
      ).toBe("aborted");
    });

    it("carry a thousand messages each way, in order", async () => {
      await using fleet = new Fleet({ transport });
      const instance = await fleet.serve("flow", serveFlow);
      const client = fleet.connect().client(Flow);
      let next = 0;
      for await (const { n } of client.down({ n: 1_000 })) expect(n).toBe(next++);
      expect(next).toBe(1_000);
      for await (const { n } of client.chat(numbers(1_000))) expect(n).toBe(next++ - 1_000);
      expect(next).toBe(2_000);
      expect(await client.up(numbers(1_000))).toEqual({ n: 499_500 });
      await settled(fleet, instance);
      expect(fleet.selector.told.map(({ error }) => error)).toEqual([undefined, undefined, undefined]);
    });

    it("do nothing before they are read, and nothing after they were left unread", async () => {
      await using fleet = new Fleet({ transport });
      await fleet.serve("flow", serveFlow);
      const client = fleet.connect().client(Flow);
      let asked = false;
      const input = {
        [Symbol.asyncIterator]() {
          asked = true;
          return numbers(1);
        },
      };
      const answers = client.chat(input);
      client.down({ n: 1 });
      await answers.return!();
      expect((await answers.next()).done).toBe(true);
      expect(asked).toBe(false);
      expect(fleet.selector.picked).toBe(0);
    });

    it("can be left while the next message is awaited", async () => {
      await using fleet = new Fleet({ transport });
      const instance = await fleet.serve("flow", serveFlow);
      const answers = fleet.connect().client(Flow).chat(forever());
      expect(await answers.next()).toEqual({ value: { n: 0 }, done: false });
      const pending = answers.next();
      await answers.return!();
      expect(await pending).toEqual({ value: undefined, done: true });
      await settled(fleet, instance);
    });

    it("can be left while they open", async () => {
      await using fleet = new Fleet({ transport });
      const instance = await fleet.serve("flow", serveFlow);
      for (let round = 0; round < 20; round += 1) {
        const answers = fleet.connect().client(Flow).down({ n: 5 });
        const pending = answers.next();
        for (let turn = 0; turn < round; turn += 1) await Promise.resolve();
        await answers.return!();
        const step = await pending;
        expect(step.done === true || step.value.n === 0).toBe(true);
      }
      await settled(fleet, instance);
    });

    it("surface a message that cannot be encoded, and end there", async () => {
      await using fleet = new Fleet({ transport });
      const instance = await fleet.serve("flow", serveFlow);
      const circular: Record<string, unknown> = {};
      circular["self"] = circular;
      const client = fleet.connect();
      const typed = client.client(Flow) as unknown as Record<string, (input: unknown) => AsyncIterator<unknown>>;
      for (const answers of [typed["down"]!(circular), typed["chat"]!([circular])]) {
        const error = await errorOf(answers.next());
        expect(error).toMatchObject({ code: "codec", id: "go.micro.client.codec" });
      }
      await expect(typed["up"]!([circular])).rejects.toMatchObject({ code: "codec" });
      await using stream = await client.stream("flow", "Flow.Chat");
      expect(await errorOf(stream.send(circular))).toMatchObject({ code: "codec" });
      await stream.send({ n: 1 });
      expect(await stream.receive()).toEqual({ n: 1 });
      stream.cancel();
      await settled(fleet, instance);
    });

    it("surface the input's own error to the reader", async () => {
      await using fleet = new Fleet({ transport });
      const instance = await fleet.serve("flow", serveFlow);
      const broken = badRequest("input", "broken");
      const input = async function* () {
        yield { n: 1 };
        throw broken;
      };
      const client = fleet.connect().client(Flow);
      const read = async () => {
        for await (const _ of client.chat(input()));
      };
      await expect(read()).rejects.toBe(broken);
      await expect(client.up(input())).rejects.toBe(broken);
      await settled(fleet, instance);
    });

    it("stop the input when the server answers or fails early", async () => {
      await using fleet = new Fleet({ transport });
      let stopped = 0;
      const input = async function* () {
        try {
          for (let n = 0; ; n += 1) {
            yield { n };
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
        } finally {
          stopped += 1;
        }
      };
      const instance = await fleet.serve("flow", (handlers) =>
        handlers.handle(Flow, {
          async *down() {},
          up: async (requests) => {
            for await (const { n } of requests) if (n === 3) break;
            return { n: 42 };
          },
          async *chat(requests) {
            for await (const request of requests) {
              yield request;
              if (request.n === 3) throw badRequest("flow", "enough");
            }
          },
        }),
      );
      const client = fleet.connect().client(Flow);
      expect(await client.up(input())).toEqual({ n: 42 });
      const seen: number[] = [];
      const read = async () => {
        for await (const { n } of client.chat(input())) seen.push(n);
      };
      await expect(read()).rejects.toMatchObject({ detail: "enough", statusCode: 400 });
      expect(seen).toEqual([0, 1, 2, 3]);
      await waitFor(() => stopped === 2);
      await settled(fleet, instance);
    });

    it("hold back an input that is faster than the reader", async () => {
      await using fleet = new Fleet({ transport });
      const instance = await fleet.serve("flow", serveFlow);
      let sent = 0;
      const text = "x".repeat(64 * 1024);
      const input = async function* () {
        for (;;) {
          sent += 1;
          yield { n: sent, text };
        }
      };
      const answers = fleet.connect().client(Flow).chat(input());
      await answers.next();
      let before = -1;
      await waitFor(async () => {
        if (before === sent) return true;
        before = sent;
        // The condition is that nothing moves any more; a busy machine only makes the count smaller.
        await new Promise((resolve) => setTimeout(resolve, 100));
        return false;
      });
      expect(sent).toBeLessThan(5_000);
      await answers.return!();
      await settled(fleet, instance);
    });

    it("move on from a draining node, also when only the first answer says so", async () => {
      await using fleet = new Fleet({ transport, strategy: "roundRobin" });
      const first = await fleet.serve("flow", serveFlow);
      const second = await fleet.serve("flow", serveFlow);
      first.server.refuse();
      const client = fleet.connect({ retries: 0 }).client(Flow);
      for (let call = 0; call < 4; call += 1) {
        const seen: number[] = [];
        for await (const { n } of client.down({ n: 3 })) seen.push(n);
        expect(seen).toEqual([0, 1, 2]);
      }
      await settled(fleet, first, second);
    });

    it("to a node that is gone open on another one", async () => {
      await using fleet = new Fleet({ transport, strategy: "roundRobin" });
      const first = await fleet.serve("flow", serveFlow);
      await fleet.serve("flow", serveFlow);
      await first.kill();
      const client = fleet.connect({ retries: 0 });
      for (let call = 0; call < 4; call += 1) {
        await using stream = await client.stream("flow", "Flow.Chat");
        await stream.send({ n: call });
        expect(await stream.receive()).toEqual({ n: call });
      }
      expect(await client.client(Flow).up([{ n: 1 }])).toEqual({ n: 1 });
    });

    it("fail when the server goes away in the middle", async () => {
      await using fleet = new Fleet({ transport });
      const instance = await fleet.serve("flow", serveFlow);
      const stream = await fleet.connect().stream("flow", "Flow.Chat");
      await stream.send({ n: 1 });
      await stream.receive();
      const pending = stream.receive();
      await Promise.all([instance.kill(), errorOf(pending)]);
      const error = await errorOf(pending);
      expect(MicroError.is(error)).toBe(true);
      expect(await errorOf(stream.send({ n: 2 }))).toBe(error);
      await settled(fleet);
    });

    it("inside a handler end with the incoming call, and inherit its deadline", async () => {
      await using fleet = new Fleet({ transport });
      const inner = await fleet.serve("flow", serveFlow);
      const client = fleet.connect();
      let left: number | undefined;
      const outer = await fleet.serve("outer", (handlers) =>
        handlers.handle("Outer.Run", async () => {
          left = currentContext()!.remainingMs;
          for await (const _ of client.client(Flow).chat(forever()));
        }),
      );
      const controller = new AbortController();
      const call = client.call("outer", "Outer.Run", {}, { signal: controller.signal, timeoutMs: 60_000 });
      await waitFor(() => inner.server.stats.inFlight === 1);
      expect(left).toBeGreaterThan(0);
      controller.abort();
      expect((await errorOf(call)).code).toBe("aborted");
      await settled(fleet, inner, outer);
    });

    it("settle however both ends interleave", { timeout: 60_000 }, async () => {
      await using fleet = new Fleet({ transport });
      const script = { steps: [] as number[] };
      const instance = await fleet.serve("flow", (handlers) =>
        handlers.handle("Flow", {
          async *chat(requests: AsyncIterable<Message>) {
            let sent = 0;
            const iterator = requests[Symbol.asyncIterator]();
            for (const step of script.steps) {
              if (step === 0) yield { n: sent++ };
              else if (step === 1) await iterator.next();
              else if (step === 2) await new Promise((resolve) => setImmediate(resolve));
              else if (step === 3) throw badRequest("flow", "scripted");
              else return;
            }
          },
        }),
      );
      const wrappers: Pick<ClientOptions, "wrapClient" | "wrapCall">[] = [
        {},
        { wrapClient: [(next) => (request, context) => next(request, context)] },
        { wrapCall: [(next) => async (request, context) => await next(request, context)] },
      ];
      const clients = wrappers.map((options) => fleet.connect(options));
      const step = fc.integer({ min: 0, max: 4 });
      const action = fc.constantFrom("send", "receive", "await", "turn", "close", "cancel", "abort", "dispose");
      await fc.assert(
        fc.asyncProperty(
          fc.array(step, { maxLength: 12 }),
          fc.array(action, { maxLength: 16 }),
          fc.integer({ min: 0, max: clients.length - 1 }),
          async (steps, actions, chosen) => {
            script.steps = steps;
            await interleave(clients[chosen]!, actions);
          },
        ),
        { numRuns: transport === "http" ? 100 : 300, endOnFailure: true },
      );
      await settled(fleet, instance);
    });
  });
}

async function interleave(client: Client, actions: readonly string[]): Promise<void> {
  const controller = new AbortController();
  const pending: Promise<unknown>[] = [];
  const received: Message[] = [];
  const stream = await client.stream<Message, Message>("flow", "Flow.Chat", { signal: controller.signal });
  const keep = (promise: Promise<unknown>): void => void pending.push(promise.catch((error: unknown) => error));
  let sent = 0;
  for (const action of actions) {
    if (action === "send") keep(stream.send({ n: sent++ }));
    else if (action === "receive")
      keep(stream.receive().then((message) => message !== undefined && received.push(message)));
    else if (action === "await") await Promise.race([pending.at(-1), new Promise((resolve) => setTimeout(resolve, 2))]);
    else if (action === "turn") await new Promise((resolve) => setImmediate(resolve));
    else if (action === "close") stream.closeSend();
    else if (action === "cancel") stream.cancel();
    else if (action === "abort") controller.abort();
    else await stream[Symbol.asyncDispose]();
  }
  await stream[Symbol.asyncDispose]();
  for (const error of (await Promise.all(pending)).filter((value) => value instanceof Error))
    if (!MicroError.is(error)) expect(error).toBeInstanceOf(TypeError);
  expect(received.map(({ n }) => n)).toEqual(received.map((_, index) => index));
}

async function* forever(): AsyncGenerator<Message> {
  yield { n: 0 };
  await new Promise(() => {});
}

describe("listeners", () => {
  it("of calls and streams are gone from signals and contexts when they are over", async () => {
    await using fleet = new Fleet();
    await fleet.serve("flow", (handlers) => {
      serveFlow(handlers);
      handlers.handle("Plain.Say", () => ({}));
    });
    const client = fleet.connect();
    const signal = new CountingSignal();
    const incoming = new Context({ service: "a", endpoint: "A.B" });
    await runInContext(incoming, async () => {
      const options = { signal: signal as unknown as AbortSignal };
      await client.call("flow", "Plain.Say", {}, options);
      for await (const _ of client.client(Flow).down({ n: 3 }, options));
      for await (const _ of client.client(Flow).chat(numbers(3), options)) break;
      await client.client(Flow).up(numbers(3), options);
      await using stream = await client.stream("flow", "Flow.Chat", options);
      await stream.send({ n: 1 });
    });
    expect(signal.added).toBeGreaterThanOrEqual(5);
    expect(signal.listeners).toBe(0);
  });
});

/** An `EventTarget` that says how many listen. */
class CountingSignal extends EventTarget {
  readonly aborted = false;
  added = 0;
  listeners = 0;
  override addEventListener(...args: Parameters<EventTarget["addEventListener"]>): void {
    this.added += 1;
    this.listeners += 1;
    super.addEventListener(...args);
  }
  override removeEventListener(...args: Parameters<EventTarget["removeEventListener"]>): void {
    this.listeners -= 1;
    super.removeEventListener(...args);
  }
}
