import { createService, errors } from "@micro/core";
import { Greeter } from "./gen/greeter.micro.ts";

const service = createService({ name: "greeter", version: "1.0.0" });

service.handle(Greeter, {
  hello({ name }) {
    if (name === "") throw errors.badRequest("greeter", "name: say who is to be greeted");
    return { msg: `Hello ${name}` };
  },
  async *count({ to }) {
    for (let i = 1; i <= to; i++) yield { i };
  },
});

await service.run();
