/** Lets the suite run on the sources: `@micro/core` is its TypeScript, and generated messages use core's protobuf library. */
import { registerHooks } from "node:module";

const core = new URL("../packages/core/", import.meta.url);

registerHooks({
  resolve(specifier, context, next) {
    if (specifier === "@micro/core") return next(new URL("src/index.ts", core).href, context);
    if (specifier === "@micro/core/proto") return next(new URL("src/proto/index.ts", core).href, context);
    if (/^@micro\/(registry|broker)-/.test(specifier))
      return next(
        new URL(`../packages/${specifier.slice("@micro/".length)}/src/index.ts`, import.meta.url).href,
        context,
      );
    if (specifier.startsWith("@bufbuild/protobuf"))
      return next(specifier, { ...context, parentURL: new URL("package.json", core).href });
    return next(specifier, context);
  },
});
