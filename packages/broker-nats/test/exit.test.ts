import { afterAll, beforeAll, describe, it } from "vitest";
import { brokerExitForms, brokerExitUses, expectExit } from "../../core/test/support/broker-exit.ts";
import { endNats, missing, natsAddress, startShared } from "./support/nats.ts";

beforeAll(startShared, 90_000);
afterAll(endNats);

describe.skipIf(missing !== undefined)("a process whose service has stopped ends, with a broker given as", () => {
  for (const form of brokerExitForms)
    for (const use of brokerExitUses)
      it(`${form}, used for: ${use}`, async () => {
        const address = await natsAddress();
        await expectExit(
          {
            module: "@micro/broker-nats",
            factory: "natsBroker",
            resolve: new URL("./support/resolve.mjs", import.meta.url),
            options: { servers: [address] },
            address,
          },
          form,
          use,
        );
      });
});
