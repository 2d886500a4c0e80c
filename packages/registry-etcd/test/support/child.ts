/** A service in a process of its own, registered in the etcd of the first argument. */
import { etcdRegistry } from "@micro/registry-etcd";
import { runChild } from "../../../core/test/support/registry-child.ts";

const [address = "", ttlMs, intervalMs] = process.argv.slice(2);
await runChild(etcdRegistry({ endpoints: [address] }), Number(ttlMs), Number(intervalMs));
