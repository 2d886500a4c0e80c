// Discovery: memory and look-up cost of the registry cache, and how many changes it absorbs.
//     node --expose-gc bench/registry.mjs [etcd@HOST:PORT]      needs the built packages
import { memoryRegistry, registryCache, silentLogger } from "../packages/core/dist/index.js";

const mib = (bytes) => (bytes / 1024 / 1024).toFixed(1);
const endpoints = ["Hello", "Count", "Echo", "Chat"].map((method) => ({
  name: `Greeter.${method}`,
  request: { name: "Request", type: "Request", values: [{ name: "name", type: "string", values: null }] },
  response: { name: "Response", type: "Response", values: [{ name: "msg", type: "string", values: null }] },
  metadata: { stream: "false" },
}));
const record = (name, index, change = 0) => ({
  name,
  version: "1.0.0",
  metadata: {},
  endpoints,
  nodes: [
    {
      id: `${name}-${index}`,
      address: `10.0.${index % 250}.1:8080`,
      metadata: { protocol: "mucp", server: "mucp", transport: "http", registry: "memory", change: String(change) },
    },
  ],
});

function heap() {
  globalThis.gc();
  globalThis.gc();
  return process.memoryUsage().heapUsed;
}

async function fill(services, nodes) {
  const registry = memoryRegistry();
  for (let service = 0; service < services; service++)
    for (let node = 0; node < nodes; node++) await registry.register(record(`service-${service}`, node));
  const before = heap();
  // As from a server: the cache holds records of its own, and its size is all of them.
  const remote = {
    name: "remote",
    getService: async (name) => structuredClone(await registry.getService(name)),
    watch: (options) => registry.watch(options),
  };
  const cache = registryCache({ registry: remote, logger: silentLogger, maxServices: 20_000, maxNodes: 200_000 });
  const names = Array.from({ length: services }, (_, service) => `service-${service}`);
  const started = performance.now();
  for (const name of names) await cache.get(name);
  const warmMs = performance.now() - started;
  const bytes = heap() - before;
  const rounds = 2_000_000;
  let waits = 0;
  const from = performance.now();
  for (let round = 0; round < rounds; round++)
    if (cache.get(names[(round * 7919) % services]) instanceof Promise) waits++;
  const nanoseconds = ((performance.now() - from) / rounds) * 1e6;
  console.log(
    `${String(services).padStart(7)} × ${String(nodes).padStart(6)} nodes: cache ${mib(bytes).padStart(6)} MiB, look-up ${nanoseconds.toFixed(0)} ns, waits ${waits}, filled in ${warmMs.toFixed(0)} ms`,
  );
  await cache[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
}

for (const [services, nodes] of [
  [1, 1_000],
  [1, 10_000],
  [1, 100_000],
  [100, 10],
  [1_000, 10],
  [10_000, 10],
])
  await fill(services, nodes);

/** Changes at a steady rate, and how far behind the cache is. */
async function changes(label, writer, reader, perSecond) {
  const cache = registryCache({ registry: reader, logger: silentLogger });
  for (let node = 0; node < 100; node++) await writer.register(record("busy", node));
  await cache.get("busy");
  const seconds = 3;
  const total = perSecond * seconds;
  const before = process.cpuUsage();
  const started = performance.now();
  let pending = [];
  for (let change = 1; change <= total; change++) {
    pending.push(writer.register(record("busy", change % 100, change)));
    if (pending.length === 50) {
      await Promise.all(pending);
      pending = [];
      const early = (change / perSecond) * 1_000 - (performance.now() - started);
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
    }
  }
  await Promise.all(pending);
  const written = performance.now();
  const latest = async () => {
    const { nodes } = await cache.get("busy");
    return nodes.some(({ node }) => node.metadata.change === String(total));
  };
  while (!(await latest())) await new Promise((resolve) => setTimeout(resolve, 1));
  const { user, system } = process.cpuUsage(before);
  console.log(
    `${label}: ${(total / ((written - started) / 1_000)).toFixed(0)} changes/s, the last one seen after ${(performance.now() - written).toFixed(0)} ms, ${(((user + system) / 1e3 / (written - started)) * 100).toFixed(0)} % of a core, writing included`,
  );
  await cache[Symbol.asyncDispose]();
}

const memory = memoryRegistry();
await changes("memory", memory, memory, 1_000);
const [, address] = /^etcd@(.+)$/.exec(process.argv[2] ?? "") ?? [];
if (address !== undefined) {
  const { etcdRegistry } = await import("../packages/registry-etcd/dist/index.js");
  await using writer = etcdRegistry({ endpoints: [address], namespace: `/bench-${process.pid}` });
  await using reader = etcdRegistry({ endpoints: [address], namespace: `/bench-${process.pid}` });
  await changes("etcd", writer, reader, 1_000);
}
