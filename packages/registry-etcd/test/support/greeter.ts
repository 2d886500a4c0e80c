/** A service in a process of its own, registered in the etcd of the first argument. */
import { createService, silentLogger } from "@micro/core";
import { etcdRegistry } from "@micro/registry-etcd";

const service = createService({
  name: "greeter",
  address: "127.0.0.1:0",
  logger: silentLogger,
  args: [],
  env: {},
  registry: etcdRegistry({ endpoints: [process.argv[2] ?? ""] }),
  registerTtlMs: 3_000,
  registerIntervalMs: 1_000,
});
service.handle("Greeter", { hello: () => ({ label: "child" }) });
await service.run();
