/** Lets a program of the tests run on the sources. */
import { registerHooks } from "node:module";

const core = new URL("../../src/index.ts", import.meta.url).href;

registerHooks({
  resolve: (specifier, context, next) => next(specifier === "@micro/core" ? core : specifier, context),
});
