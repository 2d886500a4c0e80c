import type { Cluster } from "node:cluster";

/**
 * Built-in modules that many programs never use, loaded on first use. `node:tls` and `node:crypto` alone cost a third of
 * the memory that importing core may take.
 */
export const builtin = {
  cluster: (): Cluster => process.getBuiltinModule("node:cluster") as unknown as Cluster,
  crypto: (): typeof import("node:crypto") => process.getBuiltinModule("node:crypto"),
  tls: (): typeof import("node:tls") => process.getBuiltinModule("node:tls"),
  zlib: (): typeof import("node:zlib") => process.getBuiltinModule("node:zlib"),
};
