/**
 * A service on a broker, for tests of how it ends: says `ready` once it is up and has done what it is for.
 *
 *     node broker-exit-program.ts MODULE FACTORY OPTIONS FORM USE
 *
 * FORM: `instance`, which nobody disposes; `name`. USE: what the broker is used for, see below.
 */
import { createService, memoryRegistry, type Broker, type ServiceOptions } from "@micro/core";

const [module, factory, text, form, use] = process.argv.slice(2) as [string, string, string, string, string];
const { options, address } = JSON.parse(text) as { options: object; address: string };
const exported = (await import(module)) as Record<string, unknown> & { plugins?: ServiceOptions["plugins"] };
const make = exported[factory] as (options: object) => Broker;

const registry = memoryRegistry();
const chosen: ServiceOptions =
  form === "instance"
    ? { broker: make(factory === "httpBroker" ? { registry, ...options } : options) }
    : {
        broker: factory.replace("Broker", ""),
        ...(address === "" ? {} : { brokerAddress: [address] }),
        plugins: exported.plugins ?? [],
      };
const service = createService({
  name: "exits",
  registry,
  address: "127.0.0.1:0",
  spreadMs: 0,
  ...chosen,
  afterStart: async () => {
    if (use === "subscribe" || use === "publish") await service.publish(topic, { id: 1 });
    if (use === "subscribe") await handled.promise;
    if (use === "connect") await service.broker.connect();
    process.stdout.write("ready\n");
  },
});
const topic = `exits.${crypto.randomUUID()}`;
const handled = Promise.withResolvers<void>();
if (use === "subscribe") service.subscribe(topic, () => handled.resolve());
if (use === "queue") service.subscribe(topic, () => {}, { queue: "exits" });
await service.run();
process.stdout.write("stopped\n");
// A publish after the end connects anew, and holds nothing either.
if (use === "publish" && form === "instance") await service.broker.publish(topic, { body: Buffer.from("late") });
