import { afterAll, beforeAll, describe, it } from "vitest";
import { brokerExitForms, brokerExitUses, expectExit } from "../../core/test/support/broker-exit.ts";
import { endKafka, missing, kafkaAddress, startShared } from "./support/kafka.ts";

beforeAll(startShared, 90_000);
afterAll(endKafka);

describe.skipIf(missing !== undefined)("a process whose service has stopped ends, with a broker given as", () => {
  for (const form of brokerExitForms)
    for (const use of brokerExitUses)
      it(`${form}, used for: ${use}`, async () => {
        const address = await kafkaAddress();
        await expectExit(
          {
            module: "@micro/broker-kafka",
            factory: "kafkaBroker",
            resolve: new URL("./support/resolve.mjs", import.meta.url),
            options: { addresses: [address] },
            address,
          },
          form,
          use,
        );
      });
});
