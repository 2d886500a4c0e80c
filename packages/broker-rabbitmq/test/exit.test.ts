import { afterAll, beforeAll, describe, it } from "vitest";
import { brokerExitForms, brokerExitUses, expectExit } from "../../core/test/support/broker-exit.ts";
import { endRabbitmq, missing, rabbitmqUrl, startShared } from "./support/rabbitmq.ts";

beforeAll(startShared, 90_000);
afterAll(endRabbitmq);

describe.skipIf(missing !== undefined)("a process whose service has stopped ends, with a broker given as", () => {
  for (const form of brokerExitForms)
    for (const use of brokerExitUses)
      it(`${form}, used for: ${use}`, async () => {
        const address = await rabbitmqUrl();
        await expectExit(
          {
            module: "@micro/broker-rabbitmq",
            factory: "rabbitmqBroker",
            resolve: new URL("./support/resolve.mjs", import.meta.url),
            options: { addresses: [address] },
            address,
          },
          form,
          use,
        );
      });
});
