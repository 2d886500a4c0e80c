/** A client program: looks a service up, watches in the background, and ends without closing anything. */
import { etcdRegistry } from "@micro/registry-etcd";

const registry = etcdRegistry({ endpoints: [process.argv[2] ?? ""] });
await registry.watch({ background: true }).ready;
await registry.getService("greeter");
console.log("done");
