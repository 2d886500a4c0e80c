import { describe } from "vitest";
import { registryExitTests, registryRefusalTests } from "../../core/test/support/registry-exit.ts";

/** Apart from others that use Go's port on this machine. */
const domain = `exits-${process.pid}`;

const own = {
  module: "@micro/registry-mdns",
  factory: "mdnsRegistry",
  resolve: new URL("./support/resolve.mjs", import.meta.url),
};

describe("a process that is done with its registry ends, with one given as", () =>
  registryExitTests(() => ({
    ...own,
    options: { domain, loopbackOnly: true },
    flags: ["--registry=mdns", `--mdns_domain=${domain}`, "--mdns_loopback"],
  })));

describe("a program is told in one line why it cannot start, and ends with code 1:", () =>
  registryRefusalTests(own, {
    "a time that mdns does not have": [
      ["--mdns_ttl=1500ms", "--mdns_loopback"],
      /^exits-\w+: --mdns_ttl: it must be a whole number of seconds/,
    ],
  }));
