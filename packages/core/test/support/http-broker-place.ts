/** Where http brokers meet in a test: one registry, brokers, and records of subscriptions that somebody else keeps. */
import { httpBroker, memoryNetwork, memoryRegistry, MicroError } from "@micro/core";
import type { Broker, HttpBrokerOptions, Node, Registry, Service, SubscribeOptions, Subscriber } from "@micro/core";

export const brokerService = "micro.http.broker";
/** The version that stands for "no queue". */
export const broadcast = "ff.http.broadcast";

/** Everything of one test, closed with it. */
export class HttpBrokerPlace implements AsyncDisposable {
  readonly network = memoryNetwork();
  protected readonly stack = new AsyncDisposableStack();
  readonly registry: Registry = this.stack.use(memoryRegistry({ network: this.network }));

  /** One of another process, as far as that can be seen. */
  broker(options: Partial<HttpBrokerOptions> = {}): Broker {
    const registry = this.stack.use(memoryRegistry({ network: this.network }));
    return this.stack.use(httpBroker({ registry, address: "127.0.0.1:0", ...options }));
  }

  async nodes(): Promise<(Node & { version: string })[]> {
    const services = await this.registry.getService(brokerService);
    return services.flatMap(({ version, nodes }) => nodes.map((node) => ({ ...node, version })));
  }

  /** The record of a subscription of Go's; with `wire: "pipelined"` in its metadata of one of ours. */
  async register(topic: string, address: string, queue = broadcast, metadata: object = {}): Promise<Node> {
    const node = {
      id: `${topic}-${crypto.randomUUID()}`,
      address,
      metadata: { broker: "http", topic, secure: "false", ...metadata },
    };
    await this.registry.register(recordOf(queue, node));
    return node;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.disposeAsync();
  }
}

export const recordOf = (version: string, node: Node): Service => ({
  name: brokerService,
  version,
  metadata: {},
  endpoints: [],
  nodes: [node],
});

/** A subscription that holds, and notes bodies. */
export async function inboxOf(
  broker: Broker,
  topic: string,
  options: SubscribeOptions = {},
): Promise<{ bodies: string[]; subscriber: Subscriber }> {
  const bodies: string[] = [];
  const subscriber = broker.subscribe(
    topic,
    ({ message }) => void bodies.push(Buffer.from(message.body).toString()),
    options,
  );
  await subscriber.ready;
  return { bodies, subscriber };
}

export async function failureOf(promise: Promise<unknown>): Promise<MicroError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!MicroError.is(error)) throw error ?? new Error("nothing failed");
  return error;
}
