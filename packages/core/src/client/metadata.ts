/** The metadata a call is sent with. */
import type { Context } from "../context.ts";
import { Metadata, perMessageHeaders, type MetadataInit } from "../metadata.ts";

/** Header that names the calling service. */
export const fromHeader = "Micro-From-Service";

/**
 * The incoming call's metadata without what describes that one message, then the client's, then the call's own.
 *
 * `constant` (the caller's name, or nothing) is returned as it is when there is nothing else: no object is made then,
 * and a transport may recognise it. Whoever changes the result makes a copy first.
 */
export function outgoingMetadata(
  constant: Metadata | undefined,
  incoming: Context | undefined,
  defaults: Metadata | undefined,
  own: MetadataInit | undefined,
): Metadata | undefined {
  let result: Metadata | undefined;
  if (incoming !== undefined)
    for (const [name, value] of incoming.metadata)
      if (!perMessageHeaders.has(name) && name !== fromHeader) (result ??= new Metadata()).keep(name, value);
  if (result === undefined && defaults === undefined && own === undefined) return constant;
  result ??= new Metadata();
  for (const layer of [constant, defaults, own === undefined || own instanceof Metadata ? own : new Metadata(own)])
    if (layer !== undefined) for (const [name, value] of layer) result.keep(name, value);
  return result;
}
