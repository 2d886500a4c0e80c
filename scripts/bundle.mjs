// Core's JavaScript as one file an entry: importing it costs half of what its 140 modules cost one by one.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { rolldown } from "rolldown";
import { root } from "./toolchain.mjs";

const core = join(root, "packages", "core");
const bundle = await rolldown({
  input: {
    index: join(core, "src", "index.ts"),
    "proto/index": join(core, "src", "proto", "index.ts"),
    "testing/index": join(core, "src", "testing", "index.ts"),
  },
  platform: "node",
  external: /^node:/,
  treeshake: false,
});
const { output } = await bundle.generate({
  format: "esm",
  entryFileNames: "[name].js",
  chunkFileNames: "[name].js",
});
await bundle.close();

// One character beyond Latin-1 would make V8 keep the whole text in two bytes a character: 0.7 MB for nothing.
const ascii = (code) =>
  code.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
for (const { fileName, code } of output) {
  const file = join(core, "dist", fileName);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, ascii(code));
}
