import { afterAll, describe } from "vitest";
import { registryExitTests } from "../../core/test/support/registry-exit.ts";
import { endConsul, consulUrl, missing } from "./support/consul.ts";

afterAll(endConsul);

describe.skipIf(missing !== undefined)("a process that is done with its registry ends, with one given as", () =>
  registryExitTests(async () => {
    const url = await consulUrl();
    return {
      module: "@micro/registry-consul",
      factory: "consulRegistry",
      resolve: new URL("./support/resolve.mjs", import.meta.url),
      options: { addresses: [url] },
      flags: ["--registry=consul", `--registry_address=${url}`],
    };
  }),
);
