/** What every broker checks of a message before it publishes it. */
import { Metadata } from "../metadata.ts";
import type { OutgoingBrokerMessage } from "./broker.ts";

/**
 * The header of a message to be published: a copy, which the broker may add to.
 * @throws {TypeError} if the topic is no text or empty, the body no bytes, or the header no map of texts.
 */
export function outgoingHeader(topic: string, message: OutgoingBrokerMessage): Metadata {
  if (typeof topic !== "string" || topic === "")
    throw new TypeError("publish: the topic must be a text that is not empty");
  if (typeof message !== "object" || message === null || !(message.body instanceof Uint8Array))
    throw new TypeError(`publish: the \`body\` of a message to ${JSON.stringify(topic)} must be a Uint8Array`);
  return new Metadata(message.header);
}
