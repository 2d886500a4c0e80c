/** Generated code outside of the workspace runs on core's sources. */
import { registerHooks } from "node:module";

const core = new URL("../../../core/src/", import.meta.url);

registerHooks({
  resolve(specifier, context, next) {
    if (specifier === "@micro/core") return next(new URL("index.ts", core).href, context);
    if (specifier === "@micro/core/proto") return next(new URL("proto/index.ts", core).href, context);
    return next(specifier, context);
  },
});
