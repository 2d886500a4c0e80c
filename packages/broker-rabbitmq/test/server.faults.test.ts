import { rabbitmqBroker } from "@micro/broker-rabbitmq";
import { describe, it } from "vitest";
import { startRabbitmq } from "../../../scripts/servers.mjs";
import { brokerFaults } from "../../core/test/support/broker-faults.ts";
import { missing } from "./support/rabbitmq.ts";

const kits = {
  "as Go's plugin declares it: publishers and subscribers live through": brokerFaults({
    start: () => startRabbitmq(),
    connect: (address) => rabbitmqBroker({ addresses: [address] }),
    atLeastOnce: false,
  }),
  "durable: publishers and subscribers live through": brokerFaults({
    start: () => startRabbitmq(),
    connect: (address) => rabbitmqBroker({ addresses: [address], durable: true }),
    atLeastOnce: true,
  }),
};

for (const [name, kit] of Object.entries(kits))
  describe.skipIf(missing !== undefined)(name, { timeout: 240_000 }, () => {
    for (const [fault, run] of Object.entries(kit)) it(fault, run);
  });
