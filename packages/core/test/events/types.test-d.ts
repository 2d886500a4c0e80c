// Checked by `tsc -p packages/core/test/tsconfig.json`; never run.
import { expectTypeOf } from "vitest";
import type { BrokerEvent, Subscriber } from "../../src/broker/broker.ts";
import { createEvent, type EventPublisher, type TopicPublisher } from "../../src/client/publish.ts";
import { Frame } from "../../src/codec/codec.ts";
import type { Context } from "../../src/context.ts";
import type { ProtoInput } from "../../src/proto.ts";
import type { SubscriberRegistration } from "../../src/server/events.ts";
import type { MicroService } from "../../src/service/service.ts";
import { defineTopic, type TopicDefinition } from "../../src/topic.ts";
import type { Profile } from "../codec/gen/greeter.ts";
import { ArktypeTopic, JsonTopic, ProfileSaved, RawTopic, UserCreated, ValibotTopic } from "./definitions.ts";

interface UserInput {
  id: number;
  name?: string | undefined;
  at?: string | undefined;
}
interface UserOutput {
  id: number;
  name: string;
  at?: string | undefined;
}

// A publisher passes the input, a subscriber gets the output.
expectTypeOf(UserCreated).toEqualTypeOf<TopicDefinition<UserInput, UserOutput>>();
expectTypeOf(ValibotTopic).toEqualTypeOf<TopicDefinition<{ id: number }>>();
expectTypeOf(ArktypeTopic).toEqualTypeOf<TopicDefinition<{ id: number }>>();
expectTypeOf(JsonTopic).toEqualTypeOf<TopicDefinition<{ id: number }>>();
expectTypeOf(ProfileSaved).toEqualTypeOf<TopicDefinition<ProtoInput<Profile>, Profile>>();
expectTypeOf(RawTopic).toEqualTypeOf<TopicDefinition<Frame>>();

export async function publishing(publisher: EventPublisher, service: MicroService): Promise<void> {
  await publisher.publish(UserCreated, { id: 7 });
  await publisher.publish(UserCreated, { id: 7, name: "Ada" }, { metadata: { a: "b" }, timeoutMs: 5 });
  await publisher.publish("user.created", { anything: true });
  await publisher.publish(ProfileSaved, { firstName: "Ada" });
  await publisher.publish(RawTopic, new Frame(new Uint8Array(1)));
  await service.publish(UserCreated, { id: 7 });
  // @ts-expect-error a field of the wrong type
  await publisher.publish(UserCreated, { id: "7" });
  // @ts-expect-error a field is missing
  await publisher.publish(UserCreated, {});
  // @ts-expect-error a field that does not exist
  await publisher.publish(UserCreated, { id: 7, nick: "A" });
  // @ts-expect-error a field of the wrong type
  await publisher.publish(JsonTopic, { id: "7" });
  // @ts-expect-error a field of the wrong type, deep inside
  await publisher.publish(ProfileSaved, { nextOfKin: { firstName: 5 } });
  // @ts-expect-error an option that does not exist
  await publisher.publish(UserCreated, { id: 7 }, { timeout: 5 });
  // @ts-expect-error not a topic
  await publisher.publish(7, { id: 7 });
  // @ts-expect-error a service's publish is as strict
  await service.publish(UserCreated, { id: "7" });
  // @ts-expect-error and so is its client's
  await service.client.publish(UserCreated, { id: "7" });

  const created = service.createEvent(UserCreated);
  expectTypeOf(created).toEqualTypeOf<TopicPublisher<UserInput>>();
  await created.publish({ id: 7 });
  // @ts-expect-error a field of the wrong type
  await created.publish({ id: "7" });
  await createEvent("by.name", service.client).publish({ id: "7" });
  // @ts-expect-error a field of the wrong type
  await createEvent(UserCreated, service).publish({ id: "7" });
}

class Users {
  readonly names: string[] = [];
  created({ name }: UserOutput): void {
    this.names.push(name);
  }
  async noted({ id }: { id: number }, _context: Context, delivery: BrokerEvent): Promise<void> {
    if (id > 0) await delivery.ack();
  }
}

class Wrong {
  created(_user: { nick: string }): void {}
}

export function subscribing(server: SubscriberRegistration, service: MicroService): void {
  const subscriber = server.subscribe(UserCreated, (user, context, delivery) => {
    expectTypeOf(user).toEqualTypeOf<UserOutput>();
    expectTypeOf(context).toEqualTypeOf<Context>();
    expectTypeOf(delivery).toEqualTypeOf<BrokerEvent>();
  });
  expectTypeOf(subscriber).toEqualTypeOf<Subscriber>();
  server.subscribe(UserCreated, async ({ name }) => void name, { queue: "mailer", autoAck: false });
  server.subscribe("by.name", (event: { id: number }) => void event.id);
  server.subscribe("by.name", (event) => void event.anything);
  server.subscribe(ProfileSaved, (profile) => void expectTypeOf(profile).toEqualTypeOf<Profile>());
  server.subscribe(RawTopic, ({ data }) => void expectTypeOf(data).toExtend<Uint8Array>());
  server.subscribe(UserCreated, {
    created(user) {
      expectTypeOf(user).toEqualTypeOf<UserOutput>();
    },
    noted({ id }) {
      expectTypeOf(id).toEqualTypeOf<number>();
    },
  });
  server.subscribe(UserCreated, new Users());
  server.subscribe("by.name", new Users());
  service.subscribe(UserCreated, ({ id }) => void id, { retries: 0 });
  service.server.subscribe(UserCreated, ({ id }) => void id);
  // @ts-expect-error the event has no such field
  server.subscribe(UserCreated, ({ nick }) => void nick);
  // @ts-expect-error a handler for another type
  server.subscribe(UserCreated, (user: { id: string }) => void user);
  // @ts-expect-error a method for another type
  server.subscribe(UserCreated, new Wrong());
  // @ts-expect-error an option that does not exist
  server.subscribe(UserCreated, () => {}, { que: "x" });
  // @ts-expect-error no handler
  server.subscribe(UserCreated);
}

// @ts-expect-error not a type
export const wrong = (): unknown => defineTopic("x", { type: "string" });
