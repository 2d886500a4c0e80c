// A service of several processes.
import cluster from "node:cluster";
import { appendFileSync } from "node:fs";
import { mdnsRegistry } from "../../../src/registry/mdns/mdns-registry.ts";
import type { Registry } from "../../../src/registry/registry.ts";
import { createService } from "../../../src/service/service.ts";

const env = process.env;
const who = cluster.isPrimary ? "primary" : `worker ${process.pid}`;
/** In one file, so that the order across processes can be seen; appending is atomic. */
const say = (what: string) =>
  env["TEST_LOG"] === undefined ? console.log(`${who}: ${what}`) : appendFileSync(env["TEST_LOG"], `${who}: ${what}\n`);
const mdns = mdnsRegistry({ loopbackOnly: true, port: Number(env["TEST_MDNS_PORT"]) });
const failing = (when: string) => env["TEST_FAIL"] === when && cluster.isWorker;

/** Workers register nothing themselves but their subscriptions: it would fail. */
const reading: Registry = {
  name: "mdns",
  register: (record, options) =>
    record.name === "micro.http.broker"
      ? mdns.register(record, options)
      : Promise.reject(new Error("a worker registers")),
  deregister: (record, options) =>
    record.name === "micro.http.broker"
      ? mdns.deregister(record, options)
      : Promise.reject(new Error("a worker deregisters")),
  getService: (...call) => mdns.getService(...call),
  listServices: (...call) => mdns.listServices(...call),
  watch: (...call) => mdns.watch(...call),
  [Symbol.asyncDispose]: () => mdns[Symbol.asyncDispose](),
};

let healthy = true;
const service = createService({
  name: "crowd",
  version: "1.0.0",
  address: env["TEST_ADDRESS"] ?? "127.0.0.1:0",
  registry: env["TEST_REGISTRY"] ?? (cluster.isPrimary ? mdns : reading),
  ...(env["TEST_CHECK"] === undefined
    ? {}
    : { registerIntervalMs: 100, registerCheck: () => healthy || cluster.isPrimary }),
  beforeStart: () => {
    say("beforeStart");
    if (failing("start")) {
      console.error("this worker cannot start");
      process.exit(7);
    }
  },
  afterStart: () => {
    say(`afterStart ${service.nodeId} ${service.address}`);
    if (failing("afterStart")) throw new Error("this worker cannot go on");
    if (failing("stop")) void service.stop();
  },
  beforeStop: () => say("beforeStop"),
  afterStop: () => say("afterStop"),
});
service.handle("Crowd", {
  pid: () => ({ pid: process.pid }),
  async work({ call, ms = 20 }: { call: number; ms?: number }) {
    // The work itself: calls overlap with what happens to their worker.
    await new Promise((resolve) => void setTimeout(resolve, ms));
    return { call, pid: process.pid };
  },
  hang: () => new Promise(() => say("hanging")),
  end({ code }: { code: number }) {
    setImmediate(() => process.exit(code));
    return {};
  },
  sick({ ms }: { ms: number }) {
    healthy = false;
    setTimeout(() => (healthy = true), ms);
    return {};
  },
  stop() {
    void service.stop();
    return {};
  },
  failLater() {
    process.exitCode = 9;
    return {};
  },
});
if (env["TEST_EVENTS"] !== undefined) {
  service.subscribe("crowd.news", ({ n }: { n: number }) => say(`news ${n}`));
  service.subscribe("crowd.jobs", ({ n }: { n: number }) => say(`job ${n}`), { queue: "crowd" });
}
let told = false;
const watch = setInterval(() => {
  if (!cluster.isPrimary || !service.ready || told) return;
  told = true;
  say(`ready ${service.nodeId} ${service.address}`);
}, 10);
await service.run({ workers: Number(env["TEST_WORKERS"] ?? 3) });
clearInterval(watch);
await mdns[Symbol.asyncDispose]();
say("over");
