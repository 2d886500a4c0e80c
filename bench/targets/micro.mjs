// @micro/core as a user runs it: definition, registry look-up through the cache, deadlines, ids, stats; the fast wire.
import { createService, httpTransport, memoryRegistry } from "../../packages/core/dist/index.js";

/** A definition without a schema library, so that validation does not enter the figures of either side. */
const message = (name) => ({ name });
const method = (name, kind) => ({
  name,
  kind,
  request: message(`${name}Request`),
  response: message(`${name}Response`),
});
const Greeter = {
  service: "greeter",
  type: "Greeter",
  contentType: "application/json",
  methods: { hello: method("Hello", "unary"), echo: method("Echo", "unary"), count: method("Count", "server") },
};

export async function serve() {
  const service = createService({
    name: "greeter",
    address: "127.0.0.1:0",
    registry: memoryRegistry(),
    transport: httpTransport(),
  });
  service.handle(Greeter, {
    hello: ({ name }) => ({ msg: `Hello ${name}` }),
    echo: (request) => request,
    *count({ to }) {
      for (let i = 1; i <= to; i++) yield { i };
    },
  });
  await service.start();
  return { address: service.server.address };
}

export async function connect(address, wire = "micro/1") {
  const registry = memoryRegistry();
  await registry.register({
    name: "greeter",
    version: "latest",
    metadata: {},
    endpoints: [],
    nodes: [{ id: "greeter-1", address, metadata: { protocol: "mucp", wire } }],
  });
  const service = createService({ name: "bench", registry, transport: httpTransport() });
  const greeter = service.client(Greeter);
  return {
    hello: async (name) => (await greeter.hello({ name })).msg,
    echo: async (data) => (await greeter.echo({ data })).data,
    async count(to) {
      let items = 0;
      for await (const { i } of greeter.count({ to })) if (i > 0) items++;
      return items;
    },
    close: () => service[Symbol.asyncDispose](),
  };
}
