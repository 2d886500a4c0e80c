/**
 * A program on a registry, for tests of how it ends: says `ready` once it is up and has done what it is for.
 *
 *     node registry-exit-program.ts MODULE FACTORY OPTIONS FORM USE [FLAGS]
 *
 * FORM: `instance`, which nobody disposes; `name`, chosen by FLAGS. USE: what the registry is used for, see below.
 */
import { createService, MicroError, type Registry, type ServiceOptions } from "@micro/core";

const [module, factory, text, form, use, ...args] = process.argv.slice(2) as [string, string, string, string, string];
const exported = (await import(module)) as Record<string, unknown> & { plugins?: ServiceOptions["plugins"] };
const make = exported[factory] as (options: object) => Registry;
const given = form === "instance" ? make(JSON.parse(text) as object) : undefined;
const name = `exits-${crypto.randomUUID().slice(0, 8)}`;

/** Until the registry shows the service. */
async function untilFound(registry: Registry): Promise<void> {
  for (const end = performance.now() + 20_000; (await registry.getService(name)).length === 0;)
    if (performance.now() > end) throw new Error(`nothing is found under ${name}`);
}

/** Where one of several is away, nothing found is an error. */
function ofSeveral(error: unknown): [] {
  if (given?.name === "multi" && MicroError.is(error) && error.code === "unavailable") return [];
  throw error;
}

/** Watches in the background, one of which nobody ends. */
async function watch(registry: Registry): Promise<void> {
  const left = registry.watch({ background: true });
  await left.ready;
  const ended = registry.watch({ service: name });
  await ended.ready;
  await ended[Symbol.asyncDispose]();
}

if (use === "alone") {
  const registry = given!;
  await watch(registry);
  const node = { id: `${name}-1`, address: "127.0.0.1:1", metadata: {} };
  const service = { name, version: "1", metadata: {}, endpoints: [], nodes: [node] };
  await registry.register(service, { ttlMs: 10_000 });
  await untilFound(registry);
  // An mdns node is there for as long as it is registered, and so is its process.
  await registry.deregister(service);
  process.stdout.write("ready\n");
} else {
  const service = createService({
    name,
    address: "127.0.0.1:0",
    spreadMs: 0,
    args,
    env: {},
    ...(given === undefined ? { plugins: exported.plugins ?? [] } : { registry: given }),
    afterStart: async () => {
      const { registry } = service;
      if (form === "name" && registry.name !== factory.replace("Registry", ""))
        throw new Error(`the registry is ${registry.name}`);
      if (use === "calls") await service.call(name, "Exits.Hello", {}, { timeoutMs: 20_000 });
      else await untilFound(registry);
      if (use === "watch") await watch(registry);
      process.stdout.write("ready\n");
    },
  });
  service.handle("Exits", { hello: () => ({}) });
  await service.run();
  if (use === "late" && (await given?.getService(name).catch(ofSeveral))?.length !== 0)
    throw new Error("the service is still found");
}
process.stdout.write("stopped\n");
