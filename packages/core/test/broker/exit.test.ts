import { describe, it } from "vitest";
import { brokerExitForms, brokerExitUses, expectExit } from "../support/broker-exit.ts";

const options = { http: { address: "127.0.0.1:0" }, memory: {} };

for (const [name, own] of Object.entries(options))
  describe(`a process whose service has stopped ends, with the ${name} broker given as`, () => {
    for (const form of brokerExitForms)
      for (const use of brokerExitUses)
        it(`${form}, used for: ${use}`, () =>
          expectExit(
            {
              module: "@micro/core",
              factory: `${name}Broker`,
              resolve: new URL("../support/resolve.mjs", import.meta.url),
              options: own,
              address: "",
            },
            form,
            use,
          ));
  });
