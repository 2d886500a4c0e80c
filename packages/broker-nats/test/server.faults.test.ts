import { natsBroker } from "@micro/broker-nats";
import { describe, it } from "vitest";
import { startNats } from "../../../scripts/servers.mjs";
import { brokerFaults } from "../../core/test/support/broker-faults.ts";
import { missing } from "./support/nats.ts";

const kits = {
  "core NATS: publishers and subscribers live through": brokerFaults({
    start: () => startNats(),
    connect: (address) => natsBroker({ servers: [address] }),
    atLeastOnce: false,
  }),
  "JetStream: publishers and subscribers live through": brokerFaults({
    start: () => startNats(),
    connect: (address) => natsBroker({ servers: [address], jetstream: true }),
    atLeastOnce: true,
  }),
};

for (const [name, kit] of Object.entries(kits))
  describe.skipIf(missing !== undefined)(name, { timeout: 150_000 }, () => {
    for (const [fault, run] of Object.entries(kit)) it(fault, run);
  });
