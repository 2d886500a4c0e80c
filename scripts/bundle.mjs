// Core's JavaScript as one file an entry: importing it costs half of what its 140 modules cost one by one.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { rolldown } from "rolldown";
import { root } from "./toolchain.mjs";
import { removeUnreachable } from "./unreachable.mjs";

const core = join(root, "packages", "core");
const dist = join(core, "dist");
const entries = ["index", "proto/index"];
const bundle = await rolldown({
  input: Object.fromEntries(entries.map((entry) => [entry, join(core, "src", `${entry}.ts`)])),
  platform: "node",
  external: /^node:/,
  treeshake: false,
});
// Comments are for editors, which read them in the types; V8 would keep them with the code of every process.
const { output } = await bundle.generate({
  format: "esm",
  comments: { jsdoc: false, annotation: false, legal: false },
  entryFileNames: "[name].js",
  chunkFileNames: "[name].js",
  // What the entries share is one file of a lasting name.
  codeSplitting: { groups: [{ name: "shared", minShareCount: 2 }] },
});
await bundle.close();

// One character beyond Latin-1 would make V8 keep the whole text in two bytes a character: 0.7 MB for nothing.
const ascii = (code) =>
  code.replaceAll(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
// The bundler's own few lines would be a file of their own, and that costs a process two megabytes: each file has them itself.
const runtimeName = "rolldown-runtime.js";
const runtimeImport = /^import \{ t as __exportAll \} from "(?:\.\.?\/)+rolldown-runtime\.js";$/m;
const runtime = output
  .find(({ fileName }) => fileName === runtimeName)
  ?.code.replace(/^import "node:module";\n/, "")
  .replace(/^export \{ __exportAll as t \};\n/m, "");
if (runtime === undefined || /^(?:import|export)\b/m.test(runtime))
  throw new Error(`the bundler writes its helpers in another form now: see ${runtimeName} in bundle.mjs`);

const files = output.filter(({ fileName }) => fileName !== runtimeName);
for (const { fileName, code } of files) {
  const whole = code
    .replace(runtimeImport, () => runtime.trim())
    .replace(/^import "[./]*rolldown-runtime\.js";\n/m, "");
  if (whole.includes(runtimeName)) throw new Error(`${fileName} asks for ${runtimeName}, which is not written`);
  const file = join(dist, fileName);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, ascii(whole));
}
removeUnreachable(
  dist,
  entries,
  files.map(({ fileName }) => fileName),
);
