/** Lets a program of the tests run on the sources. */
import { registerHooks } from "node:module";

const sources = { "@micro/core": "../../../core/src/index.ts", "@micro/registry-mdns": "../../src/index.ts" };

registerHooks({
  resolve(specifier, context, next) {
    const source = sources[specifier];
    return source === undefined ? next(specifier, context) : next(new URL(source, import.meta.url).href, context);
  },
});
