/** What honest callers do all the while, and what became of it. */
import { createService, defineService, jsonMessage, MicroError, serverStream, type MicroService } from "@micro/core";
import { connectBackend, type BackendAddress } from "./connect.ts";
import type { Order, Tick, TicksRequest } from "./roles.ts";

/** A call, a stream or a publish that came to an end. */
export interface Outcome {
  readonly id: string;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly timeoutMs: number;
  readonly error?: unknown;
}

export interface StreamOutcome extends Outcome {
  readonly asked: number;
  readonly got: number;
  /** Every message came in its place. */
  readonly inOrder: boolean;
}

const orderTimeoutMs = 2_000;
const publishTimeoutMs = 5_000;
const streamTimeoutMs = 10_000;
const ticksPerStream = 40;
const tickMs = 25;

const feed = defineService("feed", {
  ticks: serverStream({ request: jsonMessage<TicksRequest>("TicksRequest"), response: jsonMessage<Tick>("Tick") }),
});

/** Orders, streams and events at a steady rate, each with its deadline. */
export class Load implements AsyncDisposable {
  readonly orders: Outcome[] = [];
  readonly events: Outcome[] = [];
  readonly streams: StreamOutcome[] = [];
  /** Answers that came from a service which was not asked. */
  readonly wrong: string[] = [];
  readonly #service: MicroService;
  readonly #backend: ReturnType<typeof connectBackend>;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #stalls: { readonly at: number; readonly ms: number }[] = [];
  #count = 0;

  constructor(backend: BackendAddress) {
    this.#backend = connectBackend(backend);
    this.#service = createService({ ...this.#backend.options, name: "load", handleSignals: false });
    let last = performance.now();
    this.#timers.push(
      setInterval(() => {
        const now = performance.now();
        if (now - last > 60) this.#stalls.push({ at: now, ms: now - last });
        last = now;
      }, 20),
    );
  }

  /** Begin, at so many orders a second. */
  start(ordersPerSecond: number): void {
    this.#every(1_000 / ordersPerSecond, () => this.#order());
    this.#every(3_000 / ordersPerSecond, () => this.#publish());
    this.#every(500, () => this.#stream());
    this.#every(300, () => this.#identity());
  }

  #every(ms: number, work: () => Promise<void>): void {
    this.#timers.push(
      setInterval(() => {
        const running = work().finally(() => this.#running.delete(running));
        this.#running.add(running);
      }, ms),
    );
  }

  async #order(): Promise<void> {
    const order: Order = { id: `o${++this.#count}` };
    this.orders.push(
      await this.#timed(order.id, orderTimeoutMs, async () => {
        const answer = await this.#service.call<Order>("shop", "Shop.Order", order, { timeoutMs: orderTimeoutMs });
        if (answer.id !== order.id) this.wrong.push(`the order ${order.id} was answered for ${answer.id}`);
      }),
    );
  }

  async #publish(): Promise<void> {
    const event: Order = { id: `e${++this.#count}` };
    this.events.push(
      await this.#timed(event.id, publishTimeoutMs, () =>
        this.#service.publish("event", event, { timeoutMs: publishTimeoutMs }),
      ),
    );
  }

  async #identity(): Promise<void> {
    try {
      const { role } = await this.#service.call<{ role: string }>(
        "shop",
        "Shop.MustBeShop",
        {},
        { timeoutMs: orderTimeoutMs },
      );
      if (role !== "shop") this.wrong.push(`a call to shop was answered by ${role}`);
    } catch (error) {
      // Nobody else has this endpoint: one who does not know it was not the shop.
      if (MicroError.is(error) && /can't find/.test(error.detail)) this.wrong.push(String(error));
    }
  }

  async #stream(): Promise<void> {
    const id = `s${++this.#count}`;
    let got = 0;
    let inOrder = true;
    const request = { count: ticksPerStream, everyMs: tickMs };
    const outcome = await this.#timed(id, streamTimeoutMs, async () => {
      for await (const { n } of this.#service.client(feed).ticks(request, { timeoutMs: streamTimeoutMs })) {
        got += 1;
        if (n !== got) inOrder = false;
      }
    });
    this.streams.push({ ...outcome, asked: ticksPerStream, got, inOrder });
  }

  async #timed(id: string, timeoutMs: number, work: () => Promise<unknown>): Promise<Outcome> {
    const startedAt = performance.now();
    try {
      await work();
      return { id, startedAt, endedAt: performance.now(), timeoutMs };
    } catch (error) {
      return { id, startedAt, endedAt: performance.now(), timeoutMs, error };
    }
  }

  /** How long this process got no turn between the two times: no deadline can be kept then. */
  stalledMs({ startedAt, endedAt }: Outcome): number {
    return this.#stalls
      .filter(({ at, ms }) => at >= startedAt && at - ms <= endedAt)
      .reduce((sum, { ms }) => sum + ms, 0);
  }

  /** No more is begun; resolves when all that was has ended. */
  async end(): Promise<void> {
    for (const timer of this.#timers.splice(1)) clearInterval(timer);
    await Promise.all(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    for (const timer of this.#timers) clearInterval(timer);
    await this.#service.stop();
    await this.#backend[Symbol.asyncDispose]();
  }
}
