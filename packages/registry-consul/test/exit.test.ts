import { afterAll, beforeAll, describe } from "vitest";
import { registryExitTests, registryRefusalTests } from "../../core/test/support/registry-exit.ts";
import { endConsul, consulUrl, missing, startShared } from "./support/consul.ts";

beforeAll(startShared, 90_000);
afterAll(endConsul);

const own = {
  module: "@micro/registry-consul",
  factory: "consulRegistry",
  resolve: new URL("./support/resolve.mjs", import.meta.url),
};

describe.skipIf(missing !== undefined)("a process that is done with its registry ends, with one given as", () =>
  registryExitTests(async () => {
    const url = await consulUrl();
    return {
      ...own,
      options: { addresses: [url] },
      flags: ["--registry=consul", `--registry_address=${url}`],
    };
  }),
);

describe("a program is told in one line why it cannot start, and ends with code 1:", () =>
  registryRefusalTests(own, {
    "nobody answers": [
      ["--registry=consul", "--registry_address=127.0.0.1:1"],
      /cannot start: registry consul: .* at http:\/\/127\.0\.0\.1:1: no Consul agent answers there: see `addresses`, or --registry_address \(connect ECONNREFUSED 127\.0\.0\.1:1\); MICRO_START_WAIT=true, .* wait for it$/,
    ],
    "no such host": [
      ["--registry=consul", "--registry_address=nowhere.invalid"],
      /cannot start: registry consul: .* at http:\/\/nowhere\.invalid:\d+: no such host: see `addresses`, or --registry_address \(.*nowhere\.invalid.*\); MICRO_START_WAIT=true, .* wait for it$/,
    ],
    "an address that is none": [
      ["--registry=consul", "--registry_address=host:x"],
      /^exits-\w+: --registry_address: consulRegistry: address "host:x" must be host, host:port or http\(s\):\/\/host:port/,
    ],
  }));
