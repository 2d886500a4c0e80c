import { describe } from "vitest";
import { registryExitTests } from "../../core/test/support/registry-exit.ts";

/** Apart from others that use Go's port on this machine. */
const domain = `exits-${process.pid}`;

describe("a process that is done with its registry ends, with one given as", () =>
  registryExitTests(() => ({
    module: "@micro/registry-mdns",
    factory: "mdnsRegistry",
    resolve: new URL("./support/resolve.mjs", import.meta.url),
    options: { domain, loopbackOnly: true },
    flags: ["--registry=mdns", `--mdns_domain=${domain}`, "--mdns_loopback"],
  })));
