// The contract, shared by service and client.
import { defineService, serverStream, unary } from "@micro/core";
import { z } from "zod";

export const Greeter = defineService("greeter", {
  hello: unary({ request: z.object({ name: z.string() }), response: z.object({ msg: z.string() }) }),
  count: serverStream({ request: z.object({ to: z.int().min(1).max(1000) }), response: z.object({ i: z.int() }) }),
});
