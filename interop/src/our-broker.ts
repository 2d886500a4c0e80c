/** Our publishers and subscribers: services with the broker a scenario is about, and what each has received. */
import { type Context, defineTopic, memoryRegistry } from "@micro/core";
import { type BrokerKind, backends } from "./brokers.ts";
import { echo } from "./definition.ts";
import { type OurService, ourProgram } from "./our-service.ts";
import type { Pair } from "./pair.ts";

/** The message of all scenarios, as JSON: what Go's struct is. */
export interface JsonMessage {
  readonly text: string;
  /** Base64; Go's nil is null. */
  readonly data: string | null;
}

export interface OurEvent {
  readonly text: string;
  readonly data: Uint8Array;
  readonly metadata: Context["metadata"];
}

/** The topic with protobuf messages. */
export const protoTopic = (topic: string) => defineTopic(topic, echo);

/** A service with the broker, not started. Only the http broker's subscribers are found in a registry others see. */
export function ourBrokerService(pair: Pair, kind: BrokerKind): OurService {
  const name = pair.unique("events");
  if (kind === "http") return ourProgram({ name, spreadMs: 0 });
  return ourProgram({ name, spreadMs: 0, registry: memoryRegistry(), broker: backends[kind].connect() });
}

/** Our subscriber: a service that keeps what it receives. */
export class OurSubscriber implements AsyncDisposable {
  readonly service: OurService;
  readonly events: OurEvent[] = [];
  /** Handlers fail for messages with this text, once each. */
  failOn: string | undefined;
  attempts = 0;

  private constructor(service: OurService) {
    this.service = service;
  }

  /** One that receives whatever is published from now on. */
  static async start(
    pair: Pair,
    kind: BrokerKind,
    options: { topic: string; queue?: string; encoding?: "json" | "proto"; failOn?: string },
  ): Promise<OurSubscriber> {
    const { topic, queue, encoding = "json" } = options;
    const subscriber = new OurSubscriber(ourBrokerService(pair, kind));
    subscriber.failOn = options.failOn;
    if (encoding === "proto")
      subscriber.service.subscribe(
        protoTopic(topic),
        ({ text, data }, context) => subscriber.#take(text, data, context),
        { queue },
      );
    else
      subscriber.service.subscribe(
        topic,
        ({ text, data }: JsonMessage, context: Context) =>
          subscriber.#take(text, Buffer.from(data ?? "", "base64"), context),
        { queue },
      );
    await subscriber.service.start();
    return subscriber;
  }

  #take(text: string, data: Uint8Array, { metadata }: Context): void {
    this.attempts++;
    if (text === this.failOn) {
      this.failOn = undefined;
      throw new Error("asked to fail");
    }
    this.events.push({ text, data, metadata });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service.stop();
  }
}
