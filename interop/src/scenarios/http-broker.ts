/** What only the http broker has: its nodes in the registry, and answers nobody reads. */
import assert from "node:assert/strict";
import type { Node, Service } from "@micro/core";
import { newTopic } from "../brokers.ts";
import { GoPublisher, GoSubscriber } from "../go-broker.ts";
import { OurSubscriber, ourBrokerService, protoTopic } from "../our-broker.ts";
import { GoCannot, type Scenario, succeeded } from "../outcome.ts";
import type { Pair } from "../pair.ts";
import { waitFor } from "../wait.ts";

const broadcast = "ff.http.broadcast";
const name = "micro.http.broker";

interface Found extends Pick<Node, "id" | "address" | "metadata"> {
  readonly version: string;
}

function nodesOf(services: readonly Service[], topic: string): Found[] {
  return services.flatMap(({ version, nodes }) =>
    nodes
      .filter(({ metadata }) => metadata["topic"] === topic)
      .map(({ id, address, metadata }) => ({ version, id, address, metadata })),
  );
}

/** @param own keys that only ours have; Go does not look at them. */
function check(nodes: readonly Found[], topic: string, version: string, own: Record<string, string> = {}): void {
  assert.equal(nodes.length, 1, JSON.stringify(nodes));
  const { id, address, metadata, version: found } = nodes[0]!;
  assert.equal(found, version);
  assert.match(id, new RegExp(`^${topic}-[0-9a-f]{8}-[0-9a-f-]{27}$`));
  assert.match(address, /^127\.0\.0\.1:\d+$/);
  assert.deepEqual({ ...metadata }, { broker: "http", topic, secure: "false", ...own });
}

function checkEndpoint(service: Service | undefined, topic: string): void {
  const endpoint = service?.endpoints.find(({ name: called }) => called === "Func");
  assert.deepEqual({ ...endpoint?.metadata }, { subscriber: "true", topic });
  assert.equal(endpoint?.request?.name, "EchoMessage");
}

async function goLooksUp(pair: Pair, topic: string): Promise<Found[]> {
  await using reader = pair.start("registry", "-service", name);
  const line = succeeded(await reader.line("a result", (told) => "ok" in told || "fatal" in told));
  return nodesOf(line["services"] as Service[], topic);
}

export const httpBroker: readonly Scenario[] = [
  {
    name: "http broker: a subscription's record, with and without a queue, and its end",
    via: "mdns",
    async goToTs({ pair }) {
      for (const queue of [undefined, "mailer"]) {
        const topic = await newTopic(pair, "http");
        // Somebody else's keeps the service there: Go's look-up waits for it.
        await using stack = new AsyncDisposableStack();
        stack.use(await GoSubscriber.start(pair, "http", { topic: await newTopic(pair, "http") }));
        {
          await using _ = await OurSubscriber.start(pair, "http", { topic, ...(queue && { queue }) });
          const seen = await waitFor(
            "Go finds ours",
            () => goLooksUp(pair, topic),
            ({ length }) => length > 0,
            10_000,
          );
          check(seen, topic, queue ?? broadcast, { wire: "pipelined" });
        }
        await waitFor(
          "Go finds it no more",
          () => goLooksUp(pair, topic),
          ({ length }) => length === 0,
          10_000,
        );
      }
    },
    async tsToGo({ pair }) {
      const lookUp = async (topic: string) => nodesOf(await pair.ours.registry.getService(name), topic);
      for (const queue of [undefined, "mailer"]) {
        const topic = await newTopic(pair, "http");
        {
          await using _ = await GoSubscriber.start(pair, "http", { topic, ...(queue && { queue }) });
          const seen = await waitFor(
            "we find Go's",
            () => lookUp(topic),
            ({ length }) => length > 0,
            10_000,
          );
          check(seen, topic, queue ?? broadcast);
        }
        await waitFor(
          "we find it no more",
          () => lookUp(topic),
          ({ length }) => length === 0,
          10_000,
        );
      }
    },
  },
  {
    name: "a subscriber's endpoint in the service's own record",
    via: "mdns",
    async goToTs({ pair }) {
      const topic = await newTopic(pair, "http");
      await using ours = await OurSubscriber.start(pair, "http", { topic, encoding: "proto" });
      await using reader = pair.start("registry", "-service", ours.service.options.name);
      const line = succeeded(await reader.line("a result", (told) => "ok" in told || "fatal" in told));
      checkEndpoint((line["services"] as Service[])[0], topic);
    },
    async tsToGo({ pair }) {
      const topic = await newTopic(pair, "http");
      const service = pair.unique("subscriber");
      await using _ = await GoSubscriber.start(pair, "http", { topic, name: service });
      const lookUp = () => pair.ours.registry.getService(service);
      const [found] = await waitFor("we find Go's", lookUp, ({ length }) => length > 0, 10_000);
      checkEndpoint(found, topic);
    },
  },
  {
    name: "http broker: a topic with dots, and one too long for a DNS label with its id",
    via: "mdns",
    async goToTs({ pair }) {
      for (const topic of [`go.micro.${pair.unique("dots")}`, `${pair.unique("long")}-${"x".repeat(60)}`]) {
        await using ours = await OurSubscriber.start(pair, "http", { topic });
        await using go = await GoPublisher.start(pair, "http");
        await go.publish({ topic, encoding: "json", text: "hello" });
        await waitFor(
          "it arrives",
          () => ours.events.length,
          (count) => count === 1,
          10_000,
        );
      }
    },
    async tsToGo({ pair }) {
      const dots = `go.micro.${pair.unique("dots")}`;
      const long = `${pair.unique("long")}-${"x".repeat(60)}`;
      await using _ = await GoSubscriber.start(pair, "http", { topic: long });
      await using go = await GoSubscriber.start(pair, "http", { topic: dots });
      const ours = ourBrokerService(pair, "http");
      await ours.start();
      try {
        const reach = async (): Promise<number> => {
          await ours.publish(dots, { text: "hello" });
          return go.events.length;
        };
        await waitFor("it arrives", reach, (count) => count > 0, 20_000);
      } finally {
        await ours.stop();
      }
      // It has been there for longer than the one that was found.
      const known = await pair.ours.registry.getService(name);
      assert.equal(nodesOf(known, dots).length, 1);
      assert.equal(nodesOf(known, long).length, 0);
      return new GoCannot("a subscriber whose topic and id are longer than a DNS label is not found over mdns");
    },
  },
  {
    name: "http broker: a subscriber that died does not keep events from another",
    via: "mdns",
    async tsToGo({ pair }) {
      const topic = await newTopic(pair, "http");
      await using first = await GoSubscriber.start(pair, "http", { topic });
      await using second = await GoSubscriber.start(pair, "http", { topic });
      const ours = ourBrokerService(pair, "http");
      await ours.start();
      try {
        const reach = async (): Promise<number[]> => {
          await ours.publish(topic, { text: "probe" });
          return [first.events.length, second.events.length];
        };
        await waitFor("both are reached", reach, (counts) => counts.every((count) => count > 0), 20_000);
        first.process.kill("SIGKILL");
        await first.process.exited;
        await ours.publish(topic, { text: "to the other" });
        const count = () => second.events.filter(({ text }) => text === "to the other").length;
        await waitFor("the other has it", count, (seen) => seen > 0, 10_000);
        assert.equal(count(), 1);
      } finally {
        await ours.stop();
      }
    },
  },
  {
    name: "http broker: a subscriber of ours that is full keeps the publisher waiting",
    via: "mdns",
    async goToTs({ pair }) {
      const topic = await newTopic(pair, "http");
      const ours = ourBrokerService(pair, "http");
      const handled: string[] = [];
      const room = Promise.withResolvers<void>();
      const handle = async ({ text }: { text: string }): Promise<void> => {
        await room.promise;
        handled.push(text);
      };
      const subscriber = ours.subscribe(topic, handle, { prefetch: 1 });
      await ours.start();
      try {
        {
          await using go = await GoPublisher.start(pair, "http", { linger: "3s" });
          for (const text of ["first", "second"]) await go.publish({ topic, encoding: "json", text });
        }
        assert.equal(subscriber.stats.received, 1);
        room.resolve();
        await waitFor(
          "both are handled",
          () => handled.length,
          (count) => count === 2,
        );
      } finally {
        room.resolve();
        await ours.stop();
      }
    },
  },
  {
    name: "http broker: events as application/grpc+json, by which mucp means protobuf in a frame",
    via: "mdns",
    async goToTs({ pair }) {
      const topic = await newTopic(pair, "http");
      await using ours = await OurSubscriber.start(pair, "http", { topic, encoding: "proto" });
      await using go = await GoPublisher.start(pair, "http");
      const sent = ["1", "2", "3", "4", "x".repeat(123)];
      for (const text of sent) await go.publish({ topic, encoding: "grpcjson", text });
      const texts = () => ours.events.map(({ text }) => text).toSorted();
      await waitFor("all arrive", texts, ({ length }) => length === sent.length, 10_000);
      assert.deepEqual(texts(), sent.toSorted());
      assert.equal(ours.events[0]?.metadata.get("Content-Type"), "application/grpc+json");
    },
  },
  {
    name: "http broker: events of v2's default stack, gRPC client and server",
    via: "mdns",
    generations: ["v2"],
    // Its content type is application/grpc+proto, without the prefix: lost at Go's own mucp subscribers.
    async goToTs({ pair }) {
      const topic = await newTopic(pair, "http");
      await using ours = await OurSubscriber.start(pair, "http", { topic, encoding: "proto" });
      await using go = await GoPublisher.start(pair, "http", { grpc: true });
      await go.publish({ topic, encoding: "proto", text: "from gRPC" });
      await go.publish({ topic, encoding: "proto" });
      const texts = () => ours.events.map(({ text }) => text).toSorted();
      await waitFor("both arrive", texts, ({ length }) => length === 2, 10_000);
      assert.deepEqual(texts(), ["", "from gRPC"]);
      assert.equal(ours.events[0]?.metadata.get("Content-Type"), "application/grpc+proto");
    },
    async tsToGo({ pair }) {
      const topic = await newTopic(pair, "http");
      await using go = await GoSubscriber.start(pair, "http", { topic, encoding: "proto", grpc: true });
      const ours = ourBrokerService(pair, "http");
      await ours.start();
      try {
        const texts = () => [...new Set(go.events.map(({ text }) => text))].toSorted();
        const reach = async (): Promise<string[]> => {
          await ours.publish(protoTopic(topic), { text: "protobuf" });
          await ours.publish(topic, { text: "json" });
          return texts();
        };
        await waitFor("both arrive", reach, ({ length }) => length === 2, 20_000);
        assert.deepEqual(texts(), ["json", "protobuf"]);
      } finally {
        await ours.stop();
      }
    },
  },
  {
    name: "http broker: a failing handler is its own side's affair",
    via: "mdns",
    // Go's publisher looks at no answer; ours runs the handler again.
    async goToTs({ pair }) {
      const topic = await newTopic(pair, "http");
      await using ours = await OurSubscriber.start(pair, "http", { topic, failOn: "again" });
      await using go = await GoPublisher.start(pair, "http");
      await go.publish({ topic, encoding: "json", text: "again" });
      await waitFor(
        "it is handled",
        () => ours.events.length,
        (count) => count === 1,
        10_000,
      );
      assert.equal(ours.attempts, 2);
    },
    // Go's subscriber answers 200 whatever its handler says: delivered, once.
    async tsToGo({ pair }) {
      const topic = await newTopic(pair, "http");
      await using go = await GoSubscriber.start(pair, "http", { topic });
      const ours = ourBrokerService(pair, "http");
      await ours.start();
      try {
        const count = (text: string) => go.events.filter((event) => event.text === text).length;
        const reach = async (): Promise<number> => {
          await ours.publish(topic, { text: "probe" });
          return count("probe");
        };
        await waitFor("a probe arrives", reach, (seen) => seen > 0, 20_000);
        await ours.publish(topic, { text: "fail" });
        await ours.publish(topic, { text: "after" });
        await waitFor(
          "the next arrives",
          () => count("after"),
          (seen) => seen === 1,
          10_000,
        );
        assert.equal(count("fail"), 1);
      } finally {
        await ours.stop();
      }
    },
  },
];
