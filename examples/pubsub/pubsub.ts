// Events on whatever broker MICRO_BROKER names: http, which needs no server, unless it says nats, kafka or rabbitmq.
import { createService, defineTopic, jsonMessage, type EventHandler, type EventSubscribeOptions } from "@micro/core";

interface Order {
  id: number;
  item: string;
}

// A topic of this run alone: somebody else on the network may try the example, too.
const OrderPlaced = defineTopic(`orders-${process.pid}`, jsonMessage<Order>("OrderPlaced"));
const items = ["tea", "bread", "cheese", "apples", "jam"];

await using services = new AsyncDisposableStack();
const handled = { audit: 0, mailer: 0 };
const everything = Promise.withResolvers<void>();

function count(what: keyof typeof handled): void {
  handled[what]++;
  if (handled.audit === items.length && handled.mailer === items.length) everything.resolve();
}

/** Each of these could be a program of its own, on another machine. */
async function subscriber(name: string, handler: EventHandler<Order>, options?: EventSubscribeOptions): Promise<void> {
  const service = services.use(createService({ name, spreadMs: 0 }));
  await service.init(); // reads MICRO_BROKER, MICRO_BROKER_ADDRESS, MICRO_REGISTRY, …
  service.subscribe(OrderPlaced, handler, options);
  await service.start(); // resolves once the subscription holds
}

// Without a queue every subscriber gets every event.
await subscriber("audit", ({ id, item }) => {
  console.log(`audit      order ${id}: ${item}`);
  count("audit");
});

// Those of one queue share the events: each order is mailed once.
for (const mailer of ["mailer-1", "mailer-2"])
  await subscriber(
    mailer,
    ({ id }, _context, { attempt }) => {
      if (id === 3 && attempt === 1) throw new Error("the mail server is busy");
      console.log(`${mailer}   order ${id} mailed${attempt > 1 ? `, at attempt ${attempt}` : ""}`);
      count("mailer");
    },
    { queue: "mailer", onError: (error) => console.log(`${mailer}   failed, it is tried again: ${error.detail}`) },
  );

// Publishing takes no start: the broker is connected when it is needed.
const shop = services.use(createService({ name: "shop" }));
await shop.init();
console.log(`shop       publishes ${items.length} orders, broker ${shop.broker.name}`);
for (const [index, item] of items.entries()) await shop.publish(OrderPlaced, { id: index + 1, item });

const late = setTimeout(() => everything.reject(new Error(`not all orders came: ${JSON.stringify(handled)}`)), 30_000);
await everything.promise;
clearTimeout(late);
console.log("shop       every order was seen by the audit and mailed once");
