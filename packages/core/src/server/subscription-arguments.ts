/** The forms in which subscribers are registered, turned into one list of handlers. */
import { checkSubscription } from "../broker/consumer.ts";
import type { Context } from "../context.ts";
import { readTopic, type NamedTopic } from "../topic.ts";
import type { Next } from "../wrapper.ts";
import { composeHandler } from "./compose.ts";
import { brokerEvent, type EventHandler, type EventSubscribeOptions, type SubscriberWrapper } from "./events.ts";
import { capitalized, functionsOf } from "./handlers.ts";

/** One handler of a subscription. */
export interface EventMethod {
  /** Go's name of the endpoint: `Func`, or `Type.Method`. */
  readonly endpoint: string;
  /** Wrappers and handler. */
  readonly invoke: Next<Context>;
}

/** What one `subscribe()` call registers. */
export interface SubscriptionArguments {
  readonly topic: NamedTopic;
  readonly methods: readonly EventMethod[];
  readonly options: EventSubscribeOptions;
}

/** Read the arguments of `subscribe()`. @throws {TypeError} saying what is wrong with them. */
export function readSubscription(
  topic: unknown,
  handler: unknown,
  options: EventSubscribeOptions,
  wrappers: readonly SubscriberWrapper[],
): SubscriptionArguments {
  const named = readTopic(topic, "subscribe");
  const methods = readHandlers(named.name, handler).map(([endpoint, run]): EventMethod => {
    const handle = (event: unknown, context: Context): unknown => run(event, context, context.get(brokerEvent)!);
    return { endpoint, invoke: composeHandler(wrappers, "unary", handle) };
  });
  checkSubscription(named.name, () => {}, options, further);
  if (options.autoAck === false && methods.length > 1)
    throw new TypeError(
      `subscribe(${JSON.stringify(named.name)}): with \`autoAck: false\` an event has one handler to acknowledge it; subscribe ${methods.length} times instead`,
    );
  return { topic: named, methods, options };
}

const further = { internal: true } as const;

function readHandlers(topic: string, handler: unknown): [endpoint: string, run: EventHandler][] {
  if (typeof handler === "function") return [["Func", handler as EventHandler]];
  if (typeof handler !== "object" || handler === null)
    throw new TypeError(
      `subscribe(${JSON.stringify(topic)}): pass a function, or an object of functions, as second argument`,
    );
  const constructor: unknown = handler.constructor;
  const className = typeof constructor === "function" && constructor !== Object ? constructor.name : "";
  const type = className === "" ? "Subscriber" : capitalized(className);
  const functions = [...functionsOf(handler)];
  if (functions.length === 0)
    throw new TypeError(`subscribe(${JSON.stringify(topic)}): the object has no method to handle events`);
  return functions.map(([name, run]) => [`${type}.${capitalized(name)}`, (run as EventHandler).bind(handler)]);
}
