/** A service in a process of its own, registered in the Consul of the first argument. */
import { consulRegistry } from "@micro/registry-consul";
import { runChild } from "../../../core/test/support/registry-child.ts";

const [address = "", ttlMs, intervalMs] = process.argv.slice(2);
await runChild(consulRegistry({ addresses: [address] }), Number(ttlMs), Number(intervalMs));
