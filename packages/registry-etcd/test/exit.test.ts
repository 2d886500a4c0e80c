import { afterAll, beforeAll, describe } from "vitest";
import { registryExitTests, registryRefusalTests } from "../../core/test/support/registry-exit.ts";
import { endEtcd, etcdUrl, missing, startShared } from "./support/etcd.ts";

beforeAll(startShared, 90_000);
afterAll(endEtcd);

const own = {
  module: "@micro/registry-etcd",
  factory: "etcdRegistry",
  resolve: new URL("./support/resolve.mjs", import.meta.url),
};

describe.skipIf(missing !== undefined)("a process that is done with its registry ends, with one given as", () =>
  registryExitTests(async () => {
    const url = await etcdUrl();
    return {
      ...own,
      options: { endpoints: [url] },
      flags: ["--registry=etcd", `--registry_address=${url}`],
    };
  }),
);

describe("a program is told in one line why it cannot start, and ends with code 1:", () =>
  registryRefusalTests(own, {
    "nobody answers": [
      ["--registry=etcd", "--registry_address=127.0.0.1:1"],
      /cannot start: registry etcd: .* at http:\/\/127\.0\.0\.1:1: no etcd answers there: see `endpoints`, or --registry_address \(connect ECONNREFUSED 127\.0\.0\.1:1\); MICRO_START_WAIT=true, .* wait for it$/,
    ],
    "no such host": [
      ["--registry=etcd", "--registry_address=nowhere.invalid"],
      /cannot start: registry etcd: .* at http:\/\/nowhere\.invalid:\d+: no such host: see `endpoints`, or --registry_address \(.*nowhere\.invalid.*\); MICRO_START_WAIT=true, .* wait for it$/,
    ],
    "an address that is none": [
      ["--registry=etcd", "--registry_address=host:x"],
      /^exits-\w+: --registry_address: etcdRegistry: endpoint "host:x" must be host, host:port or http\(s\):\/\/host:port/,
    ],
  }));
