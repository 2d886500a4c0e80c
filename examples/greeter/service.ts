import { createService } from "@micro/core";
import { Greeter } from "./greeter.ts";

const service = createService({ name: "greeter", version: "1.0.0" });

service.handle(Greeter, {
  hello: ({ name }) => ({ msg: `Hello ${name}` }),
  async *count({ to }) {
    for (let i = 1; i <= to; i++) yield { i };
  },
});

await service.run();
