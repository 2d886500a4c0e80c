import { afterAll, describe } from "vitest";
import { registryExitTests } from "../../core/test/support/registry-exit.ts";
import { endEtcd, etcdUrl, missing } from "./support/etcd.ts";

afterAll(endEtcd);

describe.skipIf(missing !== undefined)("a process that is done with its registry ends, with one given as", () =>
  registryExitTests(async () => {
    const url = await etcdUrl();
    return {
      module: "@micro/registry-etcd",
      factory: "etcdRegistry",
      resolve: new URL("./support/resolve.mjs", import.meta.url),
      options: { endpoints: [url] },
      flags: ["--registry=etcd", `--registry_address=${url}`],
    };
  }),
);
