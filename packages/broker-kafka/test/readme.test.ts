import { afterAll, beforeAll } from "vitest";
import { folderOf, readmeTest } from "../../core/test/support/readme.ts";
import { endKafka, missing, kafkaAddress, startShared } from "./support/kafka.ts";

beforeAll(startShared, 90_000);
afterAll(endKafka);

readmeTest({ tests: folderOf(import.meta.url), missing, written: "127.0.0.1:9092", address: kafkaAddress });
