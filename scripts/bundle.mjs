// Core's JavaScript as one file an entry: importing it costs half of what its 140 modules cost one by one.
import { join } from "node:path";
import { rolldown } from "rolldown";
import { root } from "./toolchain.mjs";

const core = join(root, "packages", "core");
const bundle = await rolldown({
  input: { index: join(core, "src", "index.ts"), "testing/index": join(core, "src", "testing", "index.ts") },
  platform: "node",
  external: /^node:/,
  treeshake: false,
});
await bundle.write({
  dir: join(core, "dist"),
  format: "esm",
  entryFileNames: "[name].js",
  chunkFileNames: "[name].js",
});
await bundle.close();
