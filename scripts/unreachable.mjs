// What the compiler and earlier builds left in a package's `dist` that no entry leads to: nobody can import it, and it would be published.
import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

/** Remove the declarations that none of `entries` (without extension) leads to, and the scripts not in `scripts`; all relative to `dist`. */
export function removeUnreachable(dist, entries, scripts) {
  const reached = declarationsFrom(entries.map((entry) => join(dist, `${entry}.d.ts`)));
  const written = new Set(scripts.map((file) => join(dist, file)));
  for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    const stale = file.endsWith(".d.ts") ? !reached.has(file) : file.endsWith(".js") && !written.has(file);
    if (entry.isFile() && stale) rmSync(file);
  }
}

/** The files, and all that they import, directly or not. */
function declarationsFrom(files) {
  const reached = new Set();
  const waiting = [...files];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (reached.has(file)) continue;
    reached.add(file);
    const text = readFileSync(file, "utf8");
    for (const [, specifier] of text.matchAll(/\b(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)) {
      const target = join(dirname(file), specifier.replace(/\.[jt]s$/, ".d.ts"));
      if (!existsSync(target)) throw new Error(`${file} imports ${specifier}, whose declarations are missing`);
      waiting.push(target);
    }
  }
  return reached;
}
