/** A transport whose peers all count as having announced its wire, as they do once a registry names them. */
import type { Transport } from "../../src/transport/transport.ts";

export function announced(transport: Transport): Transport {
  const { wire } = transport;
  return {
    name: transport.name,
    wire,
    call: (address, request, options) => transport.call(address, request, { ...options, wire }),
    open: (address, request, options) => transport.open(address, request, { ...options, wire }),
    listen: (handler, options) => transport.listen(handler, options),
    [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
  };
}
