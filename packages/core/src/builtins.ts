import type { Cluster } from "node:cluster";

/**
 * Built-in modules that many programs never use, or not at once, loaded on first use. `node:tls` and `node:crypto` alone
 * cost a third of the memory that importing core may take; an `import` of `node:fs` or `node:util` costs another, since
 * it evaluates all their exports.
 */
export const builtin = {
  cluster: (): Cluster => process.getBuiltinModule("node:cluster") as unknown as Cluster,
  crypto: (): typeof import("node:crypto") => process.getBuiltinModule("node:crypto"),
  fs: (): typeof import("node:fs") => process.getBuiltinModule("node:fs"),
  // An import of `createRequire` would stand beside the one of the line that bundles to ESM are begun with, and be an error.
  module: (): typeof import("node:module") => process.getBuiltinModule("node:module"),
  perfHooks: (): typeof import("node:perf_hooks") => process.getBuiltinModule("node:perf_hooks"),
  tls: (): typeof import("node:tls") => process.getBuiltinModule("node:tls"),
  util: (): typeof import("node:util") => process.getBuiltinModule("node:util"),
  zlib: (): typeof import("node:zlib") => process.getBuiltinModule("node:zlib"),
};
