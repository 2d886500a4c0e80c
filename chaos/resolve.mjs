/** The fleet runs on the sources. */
import { registerHooks } from "node:module";

registerHooks({
  resolve(specifier, context, next) {
    const name = /^@micro\/([a-z-]+)$/.exec(specifier)?.[1];
    return next(name === undefined ? specifier : source(name), context);
  },
});

function source(name) {
  return new URL(`../packages/${name}/src/index.ts`, import.meta.url).href;
}
