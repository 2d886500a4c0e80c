/** The fleet runs on the sources. */
import { registerHooks } from "node:module";

registerHooks({
  resolve(specifier, context, next) {
    if (specifier === "@micro/core/testing") return next(source("core", "testing/index.ts"), context);
    const name = /^@micro\/(core|(?:registry|broker)-[a-z]+)$/.exec(specifier)?.[1];
    return name === undefined ? next(specifier, context) : next(source(name, "index.ts"), context);
  },
});

function source(name, file) {
  return new URL(`../packages/${name}/src/${file}`, import.meta.url).href;
}
