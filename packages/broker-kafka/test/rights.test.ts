import { consoleLogger } from "@micro/core";
import { kafkaBroker } from "@micro/broker-kafka";
import type { KafkaBrokerOptions } from "@micro/broker-kafka";
import { brokerConformance } from "@micro/testing";
import type { RestrictedBroker } from "@micro/testing";
import kafkajs from "kafkajs";
import type { AclEntry, Admin } from "kafkajs";
import { afterAll, beforeAll, describe, it } from "vitest";
import { startKafka } from "../../../scripts/servers.mjs";
import type { KafkaServer } from "../../../scripts/servers.mjs";
import { missing } from "./support/kafka.ts";

const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs;
const operations = { publish: AclOperationTypes.WRITE, subscribe: AclOperationTypes.READ };

describe.skipIf(missing !== undefined)("rights", () => {
  let server: KafkaServer;
  let admin: Admin;
  const as = (username: string, options: KafkaBrokerOptions = {}) =>
    kafkaBroker({
      addresses: [server.saslAddress!],
      sasl: { mechanism: "plain", username, password: "pw" },
      createTopics: { partitions: 1 },
      ...options,
    });

  beforeAll(async () => {
    server = await startKafka({
      users: { app: "pw", all: "pw" },
      config: [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:ANONYMOUS;User:all",
        "allow.everyone.if.no.acl.found=true",
      ].join("\n"),
    });
    admin = new kafkajs.Kafka({ brokers: [server.address], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
  }, 90_000);
  afterAll(async () => {
    await admin?.disconnect();
    await server?.dispose();
  });

  async function restricted(): Promise<RestrictedBroker> {
    const errors: string[] = [];
    const logger = consoleLogger({ level: "error", write: (line) => void errors.push(line) });
    const [broker, other] = [as("app", { logger }), as("all")];
    return {
      broker,
      other,
      topic: () => `rights.${crypto.randomUUID()}`,
      errors: () => errors,
      async restrict(topic, rights) {
        for (const kind of ["publish", "subscribe"] as const) {
          const entry: AclEntry = {
            resourceType: AclResourceTypes.TOPIC,
            resourceName: topic,
            resourcePatternType: ResourcePatternTypes.LITERAL,
            principal: "User:app",
            host: "*",
            operation: operations[kind],
            permissionType: AclPermissionTypes.DENY,
          };
          if (rights[kind]) await admin.deleteAcls({ filters: [entry] });
          else await admin.createAcls({ acl: [entry] });
        }
      },
      revokes: true,
      async [Symbol.asyncDispose]() {
        await Promise.all([broker.disconnect(), other.disconnect()]);
      },
    };
  }

  brokerConformance(
    { describe, it: (name, body) => name.startsWith("rights: ") && it(name, body) },
    async () => {
      const broker = as("all");
      return {
        broker,
        connect: async () => as("all"),
        topic: () => crypto.randomUUID(),
        [Symbol.asyncDispose]: () => broker.disconnect(),
      };
    },
    { restricted, patienceMs: 20_000 },
  );
});
